// Rust's std::net on the loopback: the same lines on the host and in a guest.
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::thread;
use std::time::Duration;

fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        for _ in 0..20 {
            let (mut s, _) = listener.accept().unwrap();
            thread::spawn(move || {
                let mut b = vec![];
                s.read_to_end(&mut b).unwrap();
                s.write_all(&b).unwrap();
            });
        }
    });
    let mut good = 0;
    for i in 0..20 {
        let sent = vec![i as u8; 200_000];
        let mut s = TcpStream::connect(address).unwrap();
        let mut b = vec![];
        s.set_nodelay(true).unwrap();
        s.write_all(&sent).unwrap();
        s.shutdown(Shutdown::Write).unwrap();
        s.read_to_end(&mut b).unwrap();
        good += (b == sent) as u32;
    }
    server.join().unwrap();
    println!("echoed {}", good);
    let u = UdpSocket::bind("127.0.0.1:0").unwrap();
    u.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    println!("{:?}", u.recv(&mut [0; 4]).unwrap_err().kind());
    let refused = TcpStream::connect_timeout(&"127.0.0.1:1".parse().unwrap(), Duration::from_secs(1));
    println!("{:?}", refused.unwrap_err().kind());
    println!("{:?}", "localhost:80".to_socket_addrs().map(|mut all| all.any(|a| a.is_ipv4())));
}
