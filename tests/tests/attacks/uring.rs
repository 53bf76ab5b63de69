//! Just enough of io_uring(7) for one operation at a time, without a library.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use nix::sys::socket::{SockaddrLike, SockaddrStorage};

const CONNECT: u8 = 16;
const SEND: u8 = 26;
const ENTRY: usize = 64;

struct Ring {
    fd: OwnedFd,
    submitted: *mut u8,
    completed: *mut u8,
    entries: *mut u8,
    offsets: [u32; 30],
}

/// Connects and sends through a ring.
pub fn speak(fd: &OwnedFd, to: SocketAddr, marker: &[u8]) -> io::Result<()> {
    let mut ring = Ring::new()?;
    let address = SockaddrStorage::from(to);
    // IORING_OP_CONNECT: the address, and its length in the place of the offset.
    ring.run(CONNECT, fd, address.as_ptr() as u64, u64::from(address.len()), 0)?;
    ring.run(SEND, fd, marker.as_ptr() as u64, 0, u32::try_from(marker.len()).expect("short"))
}

impl Ring {
    fn new() -> io::Result<Self> {
        let mut parameters = [0_u32; 30];
        // SAFETY: `struct io_uring_params` is these 120 bytes.
        let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 2, parameters.as_mut_ptr()) };
        let fd = super::sockets::check(i32::try_from(fd).expect("a descriptor"))?;
        // SAFETY: a new descriptor that nobody else has.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let map = |offset: libc::off_t| {
            // SAFETY: a new mapping; a page holds each ring of two entries.
            let place = unsafe {
                libc::mmap(
                    std::ptr::null_mut(),
                    4096,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_SHARED,
                    fd.as_raw_fd(),
                    offset,
                )
            };
            if place == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(place.cast()) }
        };
        let (submitted, completed, entries) = (map(0)?, map(0x800_0000)?, map(0x1000_0000)?);
        Ok(Self { fd, submitted, completed, entries, offsets: parameters })
    }

    /// One operation, waited for. The offsets are those of io_uring_setup(2): ten words, then the submission
    /// ring's (head, tail, mask, entries, flags, dropped, array), then the completion ring's.
    fn run(&mut self, code: u8, fd: &OwnedFd, address: u64, offset: u64, length: u32) -> io::Result<()> {
        let word = |index: usize| self.offsets[index] as usize;
        let (tail, mask, array) = (word(11), word(12), word(16));
        let (head, results) = (word(20), word(25));
        // SAFETY: all within the mapped pages, as the kernel's own offsets say; nobody else uses this ring.
        unsafe {
            let tail = self.submitted.add(tail).cast::<u32>();
            let slot = *tail & *self.submitted.add(mask).cast::<u32>();
            let entry = self.entries.add(slot as usize * ENTRY);
            std::ptr::write_bytes(entry, 0, ENTRY);
            *entry = code;
            *entry.add(4).cast::<i32>() = fd.as_raw_fd();
            *entry.add(8).cast::<u64>() = offset;
            *entry.add(16).cast::<u64>() = address;
            *entry.add(24).cast::<u32>() = length;
            *self.submitted.add(array).cast::<u32>().add(slot as usize) = slot;
            std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
            tail.write_volatile(*tail + 1);
            let (one, wait) = (1_u32, 1_u32);
            let done = libc::syscall(
                libc::SYS_io_uring_enter,
                self.fd.as_raw_fd(),
                one,
                one,
                wait,
                std::ptr::null::<u8>(),
                0_usize,
            );
            super::sockets::check(i32::try_from(done).expect("a count"))?;
            let head = self.completed.add(head).cast::<u32>();
            // The ring of completions has twice as many entries as the other: four.
            let result = *self.completed.add(results + (*head as usize & 3) * 16 + 8).cast::<i32>();
            head.write_volatile(*head + 1);
            if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(()) }
        }
    }
}
