//! Form body of a login (contract §1.1), built by hand so that its memory can be wiped.

use secrecy::zeroize::Zeroizing;

use citrix_wire::form::encode;

/// Returns the login as `application/x-www-form-urlencoded`.
pub(super) fn body(client_id: &str, client_secret: &str) -> Zeroizing<Vec<u8>> {
    const START: &[u8] = b"grant_type=client_credentials&client_id=";
    const MIDDLE: &[u8] = b"&client_secret=";
    // Allocated at its maximum size, because a reallocation would leave a copy behind: a byte is
    // encoded in three bytes at most.
    let capacity = START.len() + MIDDLE.len() + 3 * (client_id.len() + client_secret.len());
    let mut body = Zeroizing::new(Vec::with_capacity(capacity));
    body.extend_from_slice(START);
    encode(client_id, &mut body);
    body.extend_from_slice(MIDDLE);
    encode(client_secret, &mut body);
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_bytes_are_percent_encoded() {
        let form = |id, secret| String::from_utf8(body(id, secret).to_vec()).unwrap();
        assert_eq!(
            form("id &1", "p+/w\"==%~é"),
            "grant_type=client_credentials&client_id=id+%261&client_secret=p%2B%2Fw%22%3D%3D%25%7E%C3%A9"
        );
        assert_eq!(
            form("a-b_c.d*0Z", ""),
            "grant_type=client_credentials&client_id=a-b_c.d*0Z&client_secret="
        );
    }

    #[test]
    fn long_secret_fits_the_initial_capacity() {
        let secret = "é".repeat(1000);
        let body = body("id", &secret);
        assert_eq!(body.len(), body.capacity() - 4);
    }
}
