//! From an HTTP request to a socket, as a server.

use super::error::Failure;
use super::options::{OptionError, Options, check_subprotocols};
use super::socket::Socket;
use super::stream::Stream;
use crate::protocol::head::{Head, HeadError, parse};
use crate::protocol::response::{Response, Status};
use crate::protocol::upgrade::{accepted, check_request};

/// A connection that stays with HTTP for now.
#[derive(Debug)]
pub struct NotUpgraded {
    /// The connection. What it has received is as it was.
    pub stream: Stream,
    /// The answer that says why not: 400 or 426, or 500 when it is the options' fault.
    pub response: Response,
    /// What is wrong with the options or the subprotocols that were given. A program that takes them from elsewhere
    /// looks at them when it starts, with [`Options::check`].
    pub error: Option<OptionError>,
}

/// Receives until a whole request head is there; then [`parse`] of [`Stream::received`] has it.
///
/// # Errors
///
/// The [`Failure`] of the connection, [`Failure::EndOfStream`] when it ended before a head was complete, or the
/// response for one that cannot be read.
pub async fn receive_head(stream: &mut Stream) -> Result<Result<(), Response>, Failure> {
    loop {
        match parse(stream.received()) {
            Ok(Some(_)) => return Ok(Ok(())),
            Ok(None) => {}
            Err(error @ (HeadError::TooLarge | HeadError::Unreadable)) => return Ok(Err(error.into())),
        }
        if !stream.receive().await? {
            return Err(Failure::EndOfStream);
        }
    }
}

/// Makes a WebSocket of a connection whose request asks for that. The request's head is what
/// [`Stream::received`] begins with; what follows it are the client's first frames.
///
/// Of `subprotocols`, the first that the client offers as well is agreed on.
///
/// ```
/// use uproar::websocket::{NotUpgraded, Options, Stream, receive_head, upgrade};
///
/// async fn serve(mut stream: Stream) -> Result<(), Box<dyn std::error::Error>> {
///     if let Err(refusal) = receive_head(&mut stream).await? {
///         return Ok(stream.respond(&refusal, true).await?);
///     }
///     match upgrade(stream, &["json"], &Options::default()) {
///         Ok(mut socket) => while let Some(_message) = socket.read().await? {},
///         Err(refused) => refused.stream.respond(&refused.response, true).await?,
///     }
///     Ok(())
/// }
/// ```
///
/// # Errors
///
/// [`NotUpgraded`], from which the request can be answered otherwise.
///
/// # Panics
///
/// When no whole head has been received, see [`receive_head`].
#[expect(clippy::result_large_err, reason = "a stream that is not upgraded goes on, it is not passed up")]
pub fn upgrade<S: AsRef<str>>(
    mut stream: Stream,
    subprotocols: &[S],
    options: &Options,
) -> Result<Socket, NotUpgraded> {
    if let Err(error) = options.check().and_then(|()| check_subprotocols(subprotocols)) {
        let response = Response::text(Status::InternalServerError, "This server cannot upgrade");
        return Err(NotUpgraded { stream, response, error: Some(error) });
    }
    let refused = |stream, response| Err(NotUpgraded { stream, response, error: None });
    let head = match parse(stream.received()) {
        Ok(Some(head)) => head,
        Ok(None) => panic!("upgrade: no whole head has been received"),
        Err(error) => {
            let response = error.into();
            return refused(stream, response);
        }
    };
    let key = match check_request(&head) {
        Ok(key) => key,
        Err(response) => return refused(stream, response),
    };
    let subprotocol = choose(&head, subprotocols);
    let response = accepted(key, subprotocol.as_deref());
    let (target, head_bytes) = (head.target.to_owned(), head.bytes);
    stream.consume(head_bytes);
    // It fails for a stream that has finished, and then the socket says so.
    let _ = stream.link.push_http(&response);
    Ok(Socket::new(stream, options, target, subprotocol))
}

fn choose<S: AsRef<str>>(head: &Head<'_>, subprotocols: &[S]) -> Option<String> {
    let is_offered = |known: &&S| {
        let offered =
            head.values("sec-websocket-protocol").flat_map(|value| value.split(|byte| *byte == b','));
        offered.map(<[u8]>::trim_ascii).any(|offered| offered == known.as_ref().as_bytes())
    };
    subprotocols.iter().find(is_offered).map(|known| known.as_ref().to_owned())
}
