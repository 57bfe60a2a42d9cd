//! Streams and requests over TCP. A connection begins with a letter for what is wanted of the server, and its answer: a
//! connection that a forwarder accepts for a server that is not there yet is tried again.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;

const SINK: u8 = b's';
const SOURCE: u8 = b'f';
const ECHO: u8 = b'a';
const READY: u8 = b'k';

const BLOCK: usize = 128 << 10;
/// A small request and its answer, one segment each.
const REQUEST: usize = 64;
/// Connections that ask at the same time.
const CLIENTS: usize = 4;
/// How long a server may take to be there, and any one answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Serves until it is killed.
pub fn serve(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address)?;
    println!("ready");
    loop {
        let (stream, _) = listener.accept()?;
        // A client that went away is its own affair.
        thread::spawn(move || drop(answer(stream)));
    }
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut wanted = [0];
    stream.read_exact(&mut wanted)?;
    stream.write_all(&[READY])?;
    let mut block = vec![0; BLOCK];
    match wanted[0] {
        SINK => {
            let mut total = 0u64;
            loop {
                match stream.read(&mut block)? {
                    0 => return stream.write_all(&total.to_be_bytes()),
                    some => total += some as u64,
                }
            }
        }
        // Until the client closes.
        SOURCE => loop {
            stream.write_all(&block)?;
        },
        ECHO => loop {
            stream.read_exact(&mut block[..REQUEST])?;
            stream.write_all(&block[..REQUEST])?;
        },
        _ => Ok(()),
    }
}

fn connect(address: SocketAddr, wanted: u8) -> Result<TcpStream> {
    let begin = Instant::now();
    loop {
        let attempt = || -> io::Result<TcpStream> {
            let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            stream.write_all(&[wanted])?;
            let mut ready = [0];
            stream.read_exact(&mut ready)?;
            if ready == [READY] { Ok(stream) } else { Err(io::ErrorKind::InvalidData.into()) }
        };
        match attempt() {
            Ok(stream) => return Ok(stream),
            Err(error) if begin.elapsed() > PATIENCE => return Err(format!("cannot reach {address}: {error}").into()),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Bytes per second towards the server: what has arrived there counts.
pub fn send(address: SocketAddr, time: Duration) -> Result<f64> {
    let mut stream = connect(address, SINK)?;
    let block = vec![7; BLOCK];
    let begin = Instant::now();
    while begin.elapsed() < time {
        stream.write_all(&block)?;
    }
    stream.shutdown(Shutdown::Write)?;
    let mut total = [0; 8];
    stream.read_exact(&mut total)?;
    Ok(u64::from_be_bytes(total) as f64 / begin.elapsed().as_secs_f64())
}

/// Bytes per second from the server.
pub fn fetch(address: SocketAddr, time: Duration) -> Result<f64> {
    let mut stream = connect(address, SOURCE)?;
    let mut block = vec![0; BLOCK];
    let (begin, mut total) = (Instant::now(), 0);
    while begin.elapsed() < time {
        match stream.read(&mut block)? {
            0 => return Err("the server closed the connection".into()),
            some => total += some,
        }
    }
    Ok(total as f64 / begin.elapsed().as_secs_f64())
}

/// Requests per second, over a few connections that stay.
pub fn ask(address: SocketAddr, time: Duration) -> Result<f64> {
    let streams = (0..CLIENTS).map(|_| connect(address, ECHO)).collect::<Result<Vec<_>>>()?;
    let begin = Instant::now();
    let client = move |mut stream: TcpStream| -> Result<u64> {
        let (mut words, mut count) = ([3; REQUEST], 0);
        while begin.elapsed() < time {
            stream.write_all(&words)?;
            stream.read_exact(&mut words)?;
            count += 1;
        }
        Ok(count)
    };
    let threads: Vec<_> = streams.into_iter().map(|stream| thread::spawn(move || client(stream))).collect();
    let mut total = 0;
    for thread in threads {
        total += thread.join().map_err(|_| "a client panicked")??;
    }
    Ok(total as f64 / begin.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_and_requests_are_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let served = thread::spawn(move || {
            // As a forwarder does whose server is not there yet.
            drop(listener.accept().unwrap());
            for _ in 0..2 + CLIENTS {
                let stream = listener.accept().unwrap().0;
                thread::spawn(move || answer(stream));
            }
        });
        let time = Duration::from_millis(100);
        assert!(send(address, time).unwrap() > BLOCK as f64);
        assert!(fetch(address, time).unwrap() > BLOCK as f64);
        assert!(ask(address, time).unwrap() > 10.0);
        served.join().unwrap();
    }
}
