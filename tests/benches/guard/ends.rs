//! One end of what is measured: a process in its cgroup, on the bench's core, that does as it is told.

use std::fs::{self, File};
use std::io::{self, BufRead, ErrorKind, Read, Write, stdin, stdout};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, setns};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::socket::{setsockopt, sockopt};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use crate::Measured;
use crate::children::Work;

/// Connections that are made before the server is given a chance to take them; no more than its queue holds.
const BATCH: usize = 64;
/// What goes there and back, or there in a packet.
const TRIP: usize = 64;
/// What is written at once.
const PIECE: usize = 64 * 1024;

/// `serve CGROUP ADDRESS CORE [NAMESPACE]` or `call CGROUP ADDRESS CORE [NAMESPACE]`.
pub(crate) fn run(arguments: &[String]) -> Measured<()> {
    let [role, cgroup, address, core, namespace @ ..] = arguments else {
        return Err("role, cgroup, address, core".into());
    };
    set_pdeathsig(Signal::SIGKILL)?;
    if let [namespace] = namespace {
        setns(File::open(namespace)?, CloneFlags::CLONE_NEWNET)?;
    }
    // Before any socket: a socket's cgroup is the one that its maker was in.
    fs::write(format!("{cgroup}/cgroup.procs"), "0")?;
    let mut cores = CpuSet::new();
    cores.set(core.parse()?)?;
    // A machine that forbids it is a machine with more noise.
    let _ = sched_setaffinity(Pid::from_raw(0), &cores);
    let address = address.parse()?;
    if role == "serve" { serve(address) } else { call(address) }
}

fn serve(address: SocketAddr) -> Measured<()> {
    let listener = TcpListener::bind(address)?;
    // Packets are dropped where its queue is full: what is measured is that they are sent.
    let _sink = UdpSocket::bind(address)?;
    say(&[])?;
    while let Some((work, _)) = order()? {
        let before = processor_seconds()?;
        match work {
            Work::Connect | Work::Request => answer_and_close(&listener, work)?,
            Work::Trip => {
                let (mut caller, _) = listener.accept()?;
                caller.set_nodelay(true)?;
                let mut bytes = [0; TRIP];
                while let Ok(()) = caller.read_exact(&mut bytes) {
                    caller.write_all(&bytes)?;
                }
            }
            Work::Stream => {
                let (mut caller, _) = listener.accept()?;
                let mut bytes = vec![0; 4 * PIECE];
                while caller.read(&mut bytes)? > 0 {}
            }
            Work::Packet | Work::Datagram => {}
        }
        if !matches!(work, Work::Connect | Work::Request) {
            // The word "stop", which needs no watching for where a connection ends by itself.
            stdin().lock().read_line(&mut String::new())?;
        }
        say(&[processor_seconds()? - before])?;
    }
    Ok(())
}

/// Takes connections, reads what is asked, answers and closes them, until the next order.
fn answer_and_close(listener: &TcpListener, work: Work) -> Measured<()> {
    let (mut asked, answer) = (vec![0; work.asked()], vec![7; work.answered()]);
    listener.set_nonblocking(true)?;
    let standard_input = stdin();
    loop {
        match listener.accept() {
            Ok((mut caller, _)) => {
                caller.set_nonblocking(false)?;
                caller.read_exact(&mut asked)?;
                caller.write_all(&answer)?;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let input = standard_input.as_fd();
                let mut ready =
                    [PollFd::new(listener.as_fd(), PollFlags::POLLIN), PollFd::new(input, PollFlags::POLLIN)];
                poll(&mut ready, PollTimeout::NONE)?;
                if ready[1].any() == Some(true) {
                    standard_input.lock().read_line(&mut String::new())?;
                    listener.set_nonblocking(false)?;
                    return Ok(());
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn call(address: SocketAddr) -> Measured<()> {
    say(&[])?;
    while let Some((work, length)) = order()? {
        let before = processor_seconds()?;
        let began = Instant::now();
        let count = match work {
            Work::Connect | Work::Request => connect(address, length, work)?,
            Work::Trip => trip(address, length)?,
            Work::Stream => stream(address, length)?,
            Work::Packet => packets(address, length, true)?,
            Work::Datagram => packets(address, length, false)?,
        };
        #[allow(clippy::cast_precision_loss, reason = "counts of a quarter of a second")]
        let count = count as f64;
        say(&[count, began.elapsed().as_secs_f64(), processor_seconds()? - before])?;
    }
    Ok(())
}

fn connect(address: SocketAddr, length: Duration, work: Work) -> io::Result<u64> {
    let (asked, mut answer) = (vec![7; work.asked()], vec![0; work.answered() + 1]);
    let until = Instant::now() + length;
    let mut count = 0;
    let mut batch = Vec::with_capacity(BATCH);
    while Instant::now() < until {
        for _ in 0..BATCH {
            let mut connection = TcpStream::connect(address)?;
            connection.write_all(&asked)?;
            batch.push(connection);
        }
        for mut connection in batch.drain(..) {
            let mut heard = 0;
            while heard < answer.len() {
                match connection.read(&mut answer[heard..])? {
                    0 => break,
                    more => heard += more,
                }
            }
            if heard != work.answered() {
                return Err(io::Error::other("the server said more or less than it is to"));
            }
            // A reset, so that no socket stays in TIME_WAIT and no port runs out.
            setsockopt(&connection, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?;
            count += 1;
        }
    }
    Ok(count)
}

fn trip(address: SocketAddr, length: Duration) -> io::Result<u64> {
    let mut connection = TcpStream::connect(address)?;
    connection.set_nodelay(true)?;
    let until = Instant::now() + length;
    let mut count = 0;
    let mut bytes = [7; TRIP];
    while Instant::now() < until {
        connection.write_all(&bytes)?;
        connection.read_exact(&mut bytes)?;
        count += 1;
    }
    Ok(count)
}

fn stream(address: SocketAddr, length: Duration) -> io::Result<u64> {
    let mut connection = TcpStream::connect(address)?;
    let until = Instant::now() + length;
    let mut count = 0;
    let piece = vec![7; PIECE];
    while Instant::now() < until {
        connection.write_all(&piece)?;
        count += PIECE as u64;
    }
    Ok(count)
}

fn packets(address: SocketAddr, length: Duration, connected: bool) -> io::Result<u64> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    if connected {
        socket.connect(address)?;
    }
    let until = Instant::now() + length;
    let mut count = 0;
    let bytes = [7; TRIP];
    while Instant::now() < until {
        for _ in 0..BATCH {
            if connected {
                socket.send(&bytes)?
            } else {
                socket.send_to(&bytes, address)?
            };
            count += 1;
        }
    }
    Ok(count)
}

/// The next order: the work, and for a caller how long. None when there is nobody left to give one.
fn order() -> Measured<Option<(Work, Duration)>> {
    let mut line = String::new();
    if stdin().lock().read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let word = words.next().ok_or("an empty order")?;
    let work = Work::ALL.into_iter().find(|work| work.word() == word).ok_or("an unknown order")?;
    let length = words.next().map(str::parse).transpose()?.map_or(Duration::ZERO, Duration::from_millis);
    Ok(Some((work, length)))
}

#[allow(clippy::print_stdout, reason = "the parent reads it")]
fn say(numbers: &[f64]) -> io::Result<()> {
    let words: Vec<String> = numbers.iter().map(f64::to_string).collect();
    println!("{}", words.join(" "));
    stdout().flush()
}

/// User and system time of this process, in nanoseconds' resolution.
fn processor_seconds() -> Measured<f64> {
    Ok(Duration::from(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?).as_secs_f64())
}
