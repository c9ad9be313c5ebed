//! A WebSocket server that gives back every message, and tells all the bytes that it has read.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tungstenite::error::{CapacityError, ProtocolError};
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tungstenite::{Error, Message};

/// Messages longer than this, in bytes, are refused.
pub(super) const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// A connection whose bytes are kept as they are read.
struct Kept {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Read for Kept {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let bytes = self.stream.read(buffer)?;
        self.read.extend_from_slice(&buffer[..bytes]);
        Ok(bytes)
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

/// Starts it on threads of its own, which end with the process.
pub(super) fn start() -> (SocketAddr, UnboundedReceiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (told, reads) = unbounded_channel();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let told = told.clone();
            std::thread::spawn(move || serve(stream, &told));
        }
    });
    (address, reads)
}

fn serve(mut stream: TcpStream, told: &UnboundedSender<Vec<u8>>) {
    let head = read_head(&mut stream);
    let value = |name: &str| {
        let mut fields = head.lines().filter_map(|line| line.split_once(": "));
        fields.find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    };
    let compressed = value("sec-websocket-extensions") == Some("permessage-deflate");
    let extension =
        if compressed { "Sec-WebSocket-Extensions: permessage-deflate\r\n" } else { "" };
    let switch = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         {extension}Sec-WebSocket-Accept: {}\r\n\r\n",
        accept(value("sec-websocket-key").expect("a key"))
    );
    stream.write_all(switch.as_bytes()).expect("the client reads");
    let mut kept = Kept { stream, read: Vec::new() };
    match compressed {
        true => give_back(&mut kept),
        false => kept = echo(kept),
    }
    // Whatever is still sent is read, so that no reset takes from the client what it was sent.
    let _ = kept.stream.shutdown(Shutdown::Write);
    let _ = std::io::copy(&mut kept, &mut std::io::sink());
    let _ = told.send(kept.read);
}

fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("text")
}

/// What a server proves with that it speaks WebSocket (RFC 6455, 4.2.2).
fn accept(key: &str) -> String {
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key.as_bytes());
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(hash.finish())
}

/// Gives back every message until the close; what is wrong is answered with the code for it.
fn echo(kept: Kept) -> Kept {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let mut socket = WebSocket::from_raw_socket(kept, Role::Server, Some(config));
    let failed = loop {
        match socket.read() {
            Ok(message @ (Message::Text(_) | Message::Binary(_))) => {
                if let Err(error) = socket.send(message) {
                    break error;
                }
            }
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    let code: Option<u16> = match failed {
        Error::Utf8(_) => Some(1007),
        Error::Capacity(CapacityError::MessageTooLong { .. }) => Some(1009),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        Error::Protocol(_) => Some(1002),
        _ => None,
    };
    let _ = socket.flush();
    if let Some(code) = code {
        let frame = [&[0x88, 2], &code.to_be_bytes()[..]].concat();
        let _ = socket.get_mut().stream.write_all(&frame);
    }
    let kept = socket.get_mut();
    let stream = kept.stream.try_clone().expect("a socket");
    Kept { stream, read: std::mem::take(&mut kept.read) }
}

/// Gives back every frame as it came, but for the mask: with compression agreed on, its payload is
/// for both ends to read. Until the close.
fn give_back(kept: &mut Kept) {
    loop {
        let mut head = [0; 2];
        if kept.read_exact(&mut head).is_err() {
            return;
        }
        let (length, mut answer) = match head[1] & 0x7f {
            126 => {
                let mut length = [0; 2];
                kept.read_exact(&mut length).expect("a whole frame");
                (usize::from(u16::from_be_bytes(length)), [&[head[0], 126], &length[..]].concat())
            }
            127 => {
                let mut length = [0; 8];
                kept.read_exact(&mut length).expect("a whole frame");
                let bytes = usize::try_from(u64::from_be_bytes(length)).expect("short");
                (bytes, [&[head[0], 127], &length[..]].concat())
            }
            length => (usize::from(length), vec![head[0], length]),
        };
        let (mut mask, mut payload) = ([0; 4], vec![0; length]);
        kept.read_exact(&mut mask).expect("a whole frame");
        kept.read_exact(&mut payload).expect("a whole frame");
        payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        answer.append(&mut payload);
        kept.write_all(&answer).expect("the client reads");
        if head[0] & 0xf == 8 {
            return;
        }
    }
}
