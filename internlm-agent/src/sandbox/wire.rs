//! Messages between host, launcher and the first process inside: a length, JSON, and open files beside it.
//!
//! Both ends are our own code; what runs inside never holds such a socket.

use std::io::{self, IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Most open files in one message.
const MAX_FDS: usize = 8;
/// Most bytes of a message: a program's text and some.
const MAX_BYTES: usize = 64 << 20;

/// Sends a message. Small ones leave in one piece, so two senders on one socket don't mix.
pub(crate) fn send<T: Serialize>(
    socket: &UnixStream,
    message: &T,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(&body);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut sent = retry_on_intr(|| {
        sendmsg(
            socket.as_fd(),
            &[IoSlice::new(&bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        )
    })?;
    while sent < bytes.len() {
        let rest = &bytes[sent..];
        sent += retry_on_intr(|| rustix::net::send(socket.as_fd(), rest, SendFlags::NOSIGNAL))?;
    }
    Ok(())
}

/// Receives a message and the files beside it; `None` if the other end is gone.
pub(crate) fn recv<T: DeserializeOwned>(
    socket: &UnixStream,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut header = [0; 4];
    let mut filled = 0;
    let mut fds = Vec::new();
    while filled < header.len() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let got = retry_on_intr(|| {
            recvmsg(
                socket.as_fd(),
                &mut [IoSliceMut::new(&mut header[filled..])],
                &mut control,
                RecvFlags::CMSG_CLOEXEC,
            )
        })?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        if got.bytes == 0 {
            return match filled {
                0 => Ok(None),
                _ => Err(io::ErrorKind::UnexpectedEof.into()),
            };
        }
        filled += got.bytes;
    }
    let length = u32::from_be_bytes(header) as usize;
    if length > MAX_BYTES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; length];
    let mut reader: &UnixStream = socket;
    reader.read_exact(&mut body)?;
    Ok(Some((serde_json::from_slice(&body)?, fds)))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Seek, Write};

    use super::*;

    #[test]
    fn a_message_brings_its_files() {
        let (left, right) = UnixStream::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"inside").unwrap();
        file.rewind().unwrap();
        send(&left, &("one", 1), &[file.as_fd()]).unwrap();
        send(&left, &("two", 2), &[]).unwrap();
        drop(left);
        let (first, fds) = recv::<(String, u32)>(&right).unwrap().unwrap();
        assert_eq!(first, ("one".into(), 1));
        let mut text = String::new();
        let [fd] = <[OwnedFd; 1]>::try_from(fds).unwrap();
        File::from(fd).read_to_string(&mut text).unwrap();
        assert_eq!(text, "inside");
        let (second, fds) = recv::<(String, u32)>(&right).unwrap().unwrap();
        assert_eq!(second, ("two".into(), 2));
        assert!(fds.is_empty());
        assert!(recv::<(String, u32)>(&right).unwrap().is_none());
    }

    #[test]
    fn a_broken_message_is_an_error() {
        let (mut left, right) = UnixStream::pair().unwrap();
        left.write_all(&[0, 0]).unwrap();
        drop(left);
        assert!(recv::<u32>(&right).is_err());
        let (mut left, right) = UnixStream::pair().unwrap();
        left.write_all(&u32::MAX.to_be_bytes()).unwrap();
        assert!(recv::<u32>(&right).is_err());
    }
}
