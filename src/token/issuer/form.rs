//! The form that the current endpoint takes (contract 1.1), written by hand so that its memory can be wiped.

use secrecy::zeroize::Zeroizing;

use citrix_wire::form::encode;

/// The login in `application/x-www-form-urlencoded`.
pub(super) fn body(client_id: &str, client_secret: &str) -> Zeroizing<Vec<u8>> {
    const START: &[u8] = b"grant_type=client_credentials&client_id=";
    const MIDDLE: &[u8] = b"&client_secret=";
    // All the room there can be from the start, so that growing leaves no copies behind: a byte becomes three at most.
    let room = START.len() + MIDDLE.len() + 3 * (client_id.len() + client_secret.len());
    let mut body = Zeroizing::new(Vec::with_capacity(room));
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
    fn what_a_form_gives_a_meaning_is_escaped() {
        let written = |id, secret| String::from_utf8(body(id, secret).to_vec()).unwrap();
        assert_eq!(
            written("id &1", "p+/w\"==%~é"),
            "grant_type=client_credentials&client_id=id+%261&client_secret=p%2B%2Fw%22%3D%3D%25%7E%C3%A9"
        );
        assert_eq!(
            written("a-b_c.d*0Z", ""),
            "grant_type=client_credentials&client_id=a-b_c.d*0Z&client_secret="
        );
    }

    #[test]
    fn no_secret_outgrows_its_room() {
        let secret = "é".repeat(1000);
        let body = body("id", &secret);
        assert_eq!(body.len(), body.capacity() - 4);
    }
}
