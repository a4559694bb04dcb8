#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| citrix_auth_proxy_fuzz::login_request(bytes));
