//! A caller with one connection and one request at a time.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::Fallible;

/// Far above what a response takes under valgrind.
const TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) struct Caller {
    socket: TcpStream,
    read: Vec<u8>,
}

impl Caller {
    pub(crate) fn connect(address: SocketAddr) -> Fallible<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        Ok(Self {
            socket,
            read: Vec::new(),
        })
    }

    /// Sends a request and reads the whole response, which must have the status 200.
    pub(crate) fn request(&mut self, request: &[u8]) -> Fallible<()> {
        if self.status(request)? == 200 {
            return Ok(());
        }
        Err(format!("no 200: {}", String::from_utf8_lossy(&self.read)).into())
    }

    /// Like [`Caller::request`], and waits until the gateway closed the connection, so that the next
    /// one does not overlap with the work on this.
    pub(crate) fn last_request(&mut self, request: &[u8]) -> Fallible<()> {
        self.request(request)?;
        match self.socket.read(&mut [0])? {
            0 => Ok(()),
            _ => Err("bytes after the response".into()),
        }
    }

    /// Sends a request, reads the whole response and returns its status.
    pub(crate) fn status(&mut self, request: &[u8]) -> Fallible<u16> {
        self.socket.write_all(request)?;
        self.read.clear();
        let mut piece = [0; 64 * 1024];
        while !is_complete(&self.read) {
            let length = self.socket.read(&mut piece)?;
            if length == 0 {
                return Err("the gateway closed the connection".into());
            }
            self.read.extend_from_slice(&piece[..length]);
        }
        let status = self.read.get(9..12).unwrap_or_default();
        Ok(std::str::from_utf8(status)?.parse()?)
    }
}

/// Returns `true` for a whole response with a length, or with chunks of JSON.
fn is_complete(response: &[u8]) -> bool {
    let Some(end) = response.windows(4).position(|four| four == b"\r\n\r\n") else {
        return false;
    };
    let head = String::from_utf8_lossy(&response[..end]).to_ascii_lowercase();
    match head.split_once("\r\ncontent-length: ") {
        Some((_, rest)) => {
            let digits = rest.split("\r\n").next().unwrap_or_default();
            digits.parse() == Ok(response.len() - end - 4)
        }
        None => response.ends_with(b"\r\n0\r\n\r\n"),
    }
}
