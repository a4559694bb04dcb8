//! Loopback ports that no other server of the tests gets.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;

use socket2::{Domain, Socket, Type};

/// Bound but not listening, so that connections are refused where no server listens.
static RESERVED: Mutex<Vec<Socket>> = Mutex::new(Vec::new());

/// Returns ports at which servers can start, and start again, while the process runs. Until then,
/// and between, connections to them are refused: a client that tries again reaches no server of
/// another test.
pub fn reserve<const N: usize>() -> [u16; N] {
    [(); N].map(|()| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        // Servers set it as well, and may then share the address with a socket that only holds it.
        socket.set_reuse_address(true).unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        socket.bind(&any.into()).unwrap();
        let port = socket.local_addr().unwrap().as_socket().unwrap().port();
        RESERVED.lock().unwrap().push(socket);
        port
    })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn reserved_port_refuses_connections_between_two_servers() {
        let [port] = reserve();
        let address = (Ipv4Addr::LOCALHOST, port);
        for _ in 0..2 {
            TcpStream::connect(address).unwrap_err();
            let _server = TcpListener::bind(address).unwrap();
            TcpStream::connect(address).unwrap();
        }
    }
}
