//! A client of a real server.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use fleet_protocol::reply::Value;
use testkit::store::StoreServer;

/// A connection in protocol version 2.
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Opens a connection.
    pub fn new(server: &StoreServer) -> Self {
        let stream = UnixStream::connect(server.socket()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Self {
            stream: BufReader::new(stream),
        }
    }

    /// Sends a command and returns its reply, or the server's error.
    pub fn call<W: AsRef<[u8]>>(&mut self, words: &[W]) -> Result<Value, String> {
        self.send(words);
        self.read()
    }

    /// Sends a command.
    pub fn send<W: AsRef<[u8]>>(&mut self, words: &[W]) {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend_from_slice(format!("${}\r\n", word.as_ref().len()).as_bytes());
            bytes.extend_from_slice(word.as_ref());
            bytes.extend_from_slice(b"\r\n");
        }
        self.stream.get_mut().write_all(&bytes).unwrap();
    }

    /// Reads one reply.
    pub fn read(&mut self) -> Result<Value, String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        let (kind, rest) = line.trim_end().split_at(1);
        let length = || rest.parse::<i64>().unwrap();
        Ok(match kind {
            "+" => Value::Bytes(rest.as_bytes().to_vec()),
            ":" => Value::Int(length()),
            "-" => return Err(rest.to_owned()),
            "$" => match usize::try_from(length()) {
                Ok(length) => {
                    let mut bytes = vec![0; length + 2];
                    self.stream.read_exact(&mut bytes).unwrap();
                    bytes.truncate(length);
                    Value::Bytes(bytes)
                }
                Err(_) => Value::Nil,
            },
            "*" => match length() {
                -1 => Value::Nil,
                length => Value::Array((0..length).map(|_| self.read()).collect::<Result<_, _>>()?),
            },
            _ => panic!("{line:?}"),
        })
    }
}
