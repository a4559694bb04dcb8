//! A client of a real server.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use fleet_protocol::reply::Value;
use fleet_protocol::script::{Call, Script};
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

/// The hash of each script.
pub type Hashes = BTreeMap<Script, Vec<u8>>;

/// Loads the scripts into a server.
pub fn load(client: &mut Client, source: impl Fn(Script) -> String) -> Hashes {
    let mut load = |script| {
        let words = ["SCRIPT".to_owned(), "LOAD".to_owned(), source(script)];
        let Value::Bytes(hash) = client.call(&words).unwrap() else {
            panic!("no hash");
        };
        (script, hash)
    };
    Script::ALL.into_iter().map(&mut load).collect()
}

/// Returns the words of a command.
pub fn words(call: Call, hashes: &Hashes) -> Vec<Vec<u8>> {
    match call {
        Call::Plain { words, .. } => words,
        Call::Script { script, keys, args } => {
            let mut words = vec![b"EVALSHA".to_vec(), hashes[&script].clone()];
            words.push(keys.len().to_string().into());
            words.extend(keys.into_iter().map(String::into_bytes));
            words.extend(args);
            words
        }
    }
}
