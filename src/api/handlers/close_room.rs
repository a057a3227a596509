//! `DELETE /rooms/{room}`: closes a room that was created on demand. Its members go to the first room.

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::HeaderMap;
use axum::response::Response;

use crate::api::idempotency::{ContentDigest, IdempotencyKey};
use crate::api::keys::Caller;
use crate::api::link::{NoReply, Reply};
use crate::api::orders::{self, answer};
use crate::api::outcome::{carry_out_once, no_room};
use crate::api::problem::{Problem, ProblemKind};
use crate::api::state::Api;
use crate::events::ModerationTarget;
use crate::mail;
use crate::metrics::OrderKind;
use crate::rooms::{Request as RoomRequest, Unlogged};

pub(crate) async fn delete(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    path: Result<Path<String>, PathRejection>,
    headers: HeaderMap,
    _: Request<Body>,
) -> Result<Response, Problem> {
    let Path(name) = path.map_err(Problem::of_path)?;
    let key = IdempotencyKey::of_headers(&headers, &caller.name)?;
    let content = ContentDigest::of(&[b"close room", name.as_bytes()]);
    let asking = api.clone();
    let work = async move {
        let directory = &asking.0.directory;
        if directory.find(&name).is_some() {
            return Err(Problem::new(ProblemKind::Conflict, "the room is configured, and stays"));
        }
        let room = directory.on_demand().find(&name).ok_or_else(no_room)?.index();
        let asked = asking.0.link.ask(room.home(), |origin| {
            mail::Request::Room(RoomRequest::Room { room, proposal: Unlogged::Close { origin }.into() })
        });
        match asked.await.map_err(NoReply::problem)?.reply().await.map_err(NoReply::problem)? {
            // Members are told to leave in either case.
            Reply::Closed { members, is_stored } => {
                let target = ModerationTarget { room: Some(name.into()), ..ModerationTarget::default() };
                orders::report(&asking, &caller, OrderKind::CloseRoom, target, members);
                if is_stored {
                    Ok(answer(members))
                } else {
                    let detail = "the room is closed; the disk has not noted it";
                    Err(Problem::new(ProblemKind::NotStored, detail))
                }
            }
            reply => Err(reply.problem()),
        }
    };
    Ok(carry_out_once(&api, key, content, work).await)
}
