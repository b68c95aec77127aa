// Threads, channels, panics, files, environment, standard input.
use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::sync::{mpsc, Arc, Mutex};
use std::{fs, thread, time};

fn main() {
    let (tx, rx) = mpsc::channel();
    let sum = Arc::new(Mutex::new(0u64));
    let ts: Vec<_> = (0..4u64)
        .map(|i| {
            let (tx, sum) = (tx.clone(), sum.clone());
            thread::spawn(move || {
                for j in 0..100 {
                    *sum.lock().unwrap() += i * j;
                }
                thread::sleep(time::Duration::from_millis(5));
                tx.send(i).unwrap();
            })
        })
        .collect();
    for t in ts {
        t.join().unwrap();
    }
    drop(tx);
    let mut got: Vec<u64> = rx.iter().collect();
    got.sort();
    println!("{:?} {}", got, sum.lock().unwrap());
    let caught = thread::spawn(|| panic!("in a thread")).join().is_err();
    println!("caught {}", caught);
    fs::write("/tmp/mayfly-rust", "line\n".repeat(1000)).unwrap();
    println!("{}", fs::read_to_string("/tmp/mayfly-rust").unwrap().len());
    fs::remove_file("/tmp/mayfly-rust").unwrap();
    let mut words = BTreeMap::new();
    for line in std::io::stdin().lock().lines() {
        for w in line.unwrap().split_whitespace() {
            *words.entry(w.to_string()).or_insert(0) += 1;
        }
    }
    println!("{:?}", words);
    println!("{:?}", std::env::args().skip(1).collect::<Vec<_>>());
    std::io::stdout().flush().unwrap();
    std::process::exit(9);
}
