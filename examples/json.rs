//! Requests and responses as JSON: `cargo run --example json -- 127.0.0.1:9001`
//!
//! `{"id": 1, "method": "add", "numbers": [1, 2]}` is answered with `{"id": 1, "result": 3}`.

use serde::{Deserialize, Serialize};
use uproar_websocket::{ListenOptions, Message, listen};

#[derive(Deserialize)]
#[serde(tag = "method", rename_all = "lowercase")]
enum Method {
    Add { numbers: Vec<i64> },
    Reverse { text: String },
}

#[derive(Deserialize)]
struct Request {
    id: u64,
    #[serde(flatten)]
    method: Method,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Response {
    Sum { id: u64, result: i64 },
    Text { id: u64, result: String },
    Error { error: String },
}

fn answer(text: &str) -> Response {
    match serde_json::from_str(text) {
        Ok(Request { id, method: Method::Add { numbers } }) => {
            Response::Sum { id, result: numbers.iter().fold(0, |sum, number| sum.wrapping_add(*number)) }
        }
        Ok(Request { id, method: Method::Reverse { text } }) => {
            Response::Text { id, result: text.chars().rev().collect() }
        }
        Err(error) => Response::Error { error: error.to_string() },
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    tokio_uring::start(async {
        let subprotocols = vec!["json".to_owned()];
        let options = ListenOptions { subprotocols, ..ListenOptions::default() };
        let server = listen(&address, options, |mut socket| async move {
            while let Ok(Some(message)) = socket.read().await {
                let Message::Text(request) = message else { continue };
                let response = serde_json::to_string(&answer(&request)).expect("numbers and texts");
                if socket.write(response).await.is_err() {
                    return;
                }
            }
        })?;
        println!("listening on ws://{}", server.local_addr());
        Ok(tokio::signal::ctrl_c().await?)
    })
}
