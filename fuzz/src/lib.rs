//! What must hold for any bytes. The fuzz targets call these functions.

mod links;

pub use links::link_rewrite;
