//! From an HTTP request to a socket, as a server.

use super::error::Failure;
use super::options::{OptionError, Options, check_subprotocols};
use super::socket::Socket;
use super::stream::Stream;
use uproar_protocol::head::{HEAD_BYTES_MAX, Head, HeadError, ParseSchedule, parse};
use uproar_protocol::response::{Response, StatusCode};
use uproar_protocol::upgrade::{accepted, check_request};

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

/// Why there is no request.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RequestError {
    /// The connection failed; [`Failure::EndOfStream`] when it ended before a head was complete.
    #[error("no request came: {0}")]
    Failed(#[from] Failure),
    /// What came cannot be read.
    #[error("the peer sent {0}")]
    Head(#[from] HeadError),
}

impl RequestError {
    /// The answer for a peer that can still be answered: 400 or 431.
    #[must_use]
    pub fn response(&self) -> Option<Response> {
        match self {
            Self::Failed(_) => None,
            Self::Head(error) => Some((*error).into()),
        }
    }
}

/// Receives until a whole request head is there; then [`parse`] of [`Stream::received`] has it.
///
/// It waits for as long as the peer does, which may be for ever: give it a deadline, as the example of [`upgrade`]
/// does. It can be dropped while it waits; nothing is lost.
///
/// # Errors
///
/// A [`RequestError`].
pub async fn receive_head(stream: &mut Stream) -> Result<(), RequestError> {
    let mut schedule = ParseSchedule::default();
    while !schedule.is_due(stream.received(), HEAD_BYTES_MAX) || parse(stream.received())?.is_none() {
        if !stream.receive().await? {
            return Err(Failure::EndOfStream.into());
        }
    }
    Ok(())
}

/// Makes a WebSocket of a connection whose request asks for that. The request's head is what
/// [`Stream::received`] begins with; what follows it are the client's first frames.
///
/// Of `subprotocols`, the first that the client offers as well is agreed on.
///
/// A program that serves connections itself must also set deadlines, and end a late connection by dropping it:
///
/// ```
/// use std::time::Duration;
///
/// use tokio::time::timeout;
/// use uproar_websocket::{Options, Stream, receive_head, upgrade};
///
/// /// How long a client has for its request, and then for an answer.
/// const PATIENCE: Duration = Duration::from_secs(10);
///
/// async fn serve(mut stream: Stream) -> Result<(), Box<dyn std::error::Error>> {
///     if let Err(error) = timeout(PATIENCE, receive_head(&mut stream)).await? {
///         if let Some(response) = error.response() {
///             timeout(PATIENCE, stream.respond(&response, true)).await??;
///         }
///         return Err(error.into());
///     }
///     match upgrade(stream, &["json"], &Options::default()) {
///         Ok(mut socket) => while let Some(_message) = socket.read().await? {},
///         Err(refused) => timeout(PATIENCE, refused.stream.respond(&refused.response, true)).await??,
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
        let response = Response::text(StatusCode::INTERNAL_SERVER_ERROR, "This server cannot upgrade");
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
        head.listed("sec-websocket-protocol").any(|offered| offered == known.as_ref().as_bytes())
    };
    subprotocols.iter().find(is_offered).map(|known| known.as_ref().to_owned())
}
