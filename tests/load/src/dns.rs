//! Questions for addresses over UDP, and a name server that has one answer for all of them.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;

/// After that an answer is lost.
const PATIENCE: Duration = Duration::from_secs(1);
const HEADER: usize = 12;
/// A record whose name points to the question: type A, class IN, 300 seconds, 192.0.2.1.
const RECORD: [u8; 16] = [0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, 1];

pub struct Found {
    /// Answers per second.
    pub rate: f64,
    /// Microseconds.
    pub median: f64,
    pub p99: f64,
    /// Questions without an answer.
    pub lost: f64,
}

/// Asks for the names in turn, so many questions at a time.
pub fn ask(server: SocketAddr, time: Duration, in_flight: usize, names: &[&str]) -> Result<Found> {
    let questions = Arc::new(names.iter().map(|name| question(name)).collect::<Result<Vec<_>>>()?);
    // Once beforehand: an answer has to be an address, and what can be cached is.
    let socket = socket(server)?;
    for question in questions.iter() {
        let answered = (0..5u16).any(|number| exchange(&socket, question, number).is_ok_and(|answer| answer));
        if !answered {
            return Err(format!("{server} gives no address for {}", names.join(", ")).into());
        }
    }
    let begin = Instant::now();
    let threads: Vec<_> = (0..in_flight.clamp(1, 64))
        .map(|first| {
            let questions = Arc::clone(&questions);
            thread::spawn(move || client(server, &questions, first, begin, time))
        })
        .collect();
    let (mut times, mut lost) = (Vec::new(), 0);
    for thread in threads {
        let (some, missed) = thread.join().map_err(|_| "a client panicked")??;
        times.extend(some);
        lost += missed;
    }
    let seconds = begin.elapsed().as_secs_f64();
    times.sort_unstable();
    let quantile = |share: f64| {
        let at = (times.len().saturating_sub(1) as f64 * share).round() as usize;
        times.get(at).map_or(f64::INFINITY, |time| time.as_secs_f64() * 1e6)
    };
    Ok(Found { rate: times.len() as f64 / seconds, median: quantile(0.5), p99: quantile(0.99), lost: f64::from(lost) })
}

fn client(
    server: SocketAddr,
    questions: &[Vec<u8>],
    first: usize,
    begin: Instant,
    time: Duration,
) -> Result<(Vec<Duration>, u32)> {
    let socket = socket(server)?;
    let (mut times, mut lost, mut number) = (Vec::new(), 0, 0u16);
    for question in questions.iter().cycle().skip(first % questions.len()) {
        if begin.elapsed() >= time {
            break;
        }
        number = number.wrapping_add(1);
        let asked = Instant::now();
        match exchange(&socket, question, number) {
            Ok(true) => times.push(asked.elapsed()),
            Ok(false) => lost += 1,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => lost += 1,
            Err(error) => return Err(error.into()),
        }
    }
    Ok((times, lost))
}

fn socket(server: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Whether the answer has an address.
fn exchange(socket: &UdpSocket, question: &[u8], number: u16) -> io::Result<bool> {
    let mut packet = [0; 512];
    packet[..question.len()].copy_from_slice(question);
    packet[..2].copy_from_slice(&number.to_be_bytes());
    socket.send(&packet[..question.len()])?;
    loop {
        let length = socket.recv(&mut packet)?;
        // An answer that is late belongs to a question that is given up.
        if length >= HEADER && packet[..2] == number.to_be_bytes() {
            return Ok(packet[6..8] != [0, 0]);
        }
    }
}

fn question(name: &str) -> Result<Vec<u8>> {
    let mut packet = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        packet.push(u8::try_from(label.len()).ok().filter(|length| (1..64).contains(length)).ok_or("not a name")?);
        packet.extend(label.bytes());
    }
    packet.extend([0, 0, 1, 0, 1]);
    if packet.len() > 256 { Err("a long name".into()) } else { Ok(packet) }
}

/// Serves until it is killed.
pub fn serve(address: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind(address)?;
    println!("ready");
    answer(&socket, None)
}

/// Answers so many questions, or all there will be.
fn answer(socket: &UdpSocket, mut count: Option<u32>) -> Result<()> {
    let mut packet = [0; 1024];
    while count != Some(0) {
        let (length, client) = socket.recv_from(&mut packet)?;
        let Some(end) = end_of_question(&packet[..length]) else { continue };
        // An answer without additional records, recursion available; other types than A have no answer.
        let known = packet[end - 4..end] == [0, 1, 0, 1];
        packet[2] |= 0x80;
        packet[3] = 0x80;
        packet[6..HEADER].copy_from_slice(&[0, u8::from(known), 0, 0, 0, 0]);
        let length = if known { end + RECORD.len() } else { end };
        packet[end..end + RECORD.len()].copy_from_slice(&RECORD);
        // A client that went away is its own affair.
        let _ = socket.send_to(&packet[..length], client);
        count = count.map(|left| left - 1);
    }
    Ok(())
}

/// Where the only question of a message ends.
fn end_of_question(packet: &[u8]) -> Option<usize> {
    let mut at = HEADER;
    loop {
        match usize::from(*packet.get(at)?) {
            0 => return Some(at + 5).filter(|end| *end <= packet.len() && *end <= 512),
            label @ 1..64 => at += label + 1,
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_and_silence_is_too() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let silent = server.try_clone().unwrap();
        // Two before the clock runs, a hundred with it; then nobody.
        let answered = thread::spawn(move || answer(&server, Some(102)));
        let found = ask(address, Duration::from_millis(1500), 1, &["one.example", "two.example"]).unwrap();
        answered.join().unwrap().unwrap();
        assert!(found.lost > 0.0 && found.rate < 102.0);
        drop(silent);
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        thread::spawn(move || answer(&server, None));
        let found = ask(address, Duration::from_millis(200), 2, &["one.example", "two.example"]).unwrap();
        assert!(found.rate > 10.0 && found.median <= found.p99 && found.lost == 0.0);
        assert!(ask(address, Duration::from_millis(50), 1, &[""]).is_err());
    }

    #[test]
    fn broken_questions_have_no_end() {
        let good = question("a.example").unwrap();
        assert_eq!(end_of_question(&good), Some(good.len()));
        assert_eq!(end_of_question(&good[..good.len() - 1]), None);
        assert_eq!(end_of_question(&[0; 5]), None);
        assert_eq!(end_of_question(&[0xff; 40]), None);
    }
}
