//! An echo server as fastwebsockets' example shows it (<https://github.com/denoland/fastwebsockets>,
//! `examples/echo_server.rs`): one thread, its upgrade over hyper, and the task of a connection without tokio's
//! budget (`unconstrained`). `TCP_NODELAY` is added, which the example lacks. Everything else is the library's
//! default. Each message is written by itself.

use std::io;

use fastwebsockets::{FragmentCollector, OpCode, WebSocketError, upgrade};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::unconstrained;

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let Some(port) = std::env::args().nth(1).and_then(|port| port.parse::<u16>().ok()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "usage: peer-fastwebsockets PORT"));
    };
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
            if let Err(error) = connection.with_upgrades().await {
                eprintln!("{error}");
            }
        });
    }
}

async fn answer(mut request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, WebSocketError> {
    let (response, upgraded) = upgrade::upgrade(&mut request)?;
    tokio::spawn(async move {
        if let Err(error) = unconstrained(echo(upgraded)).await {
            eprintln!("{error}");
        }
    });
    Ok(response)
}

async fn echo(upgraded: upgrade::UpgradeFut) -> Result<(), WebSocketError> {
    let mut socket = FragmentCollector::new(upgraded.await?);
    loop {
        let frame = socket.read_frame().await?;
        match frame.opcode {
            OpCode::Close => return Ok(()),
            OpCode::Text | OpCode::Binary => socket.write_frame(frame).await?,
            _ => {}
        }
    }
}
