//! Connections: how many, how long, how much. What is asked is for [`routes`](super::routes).

#![forbid(unsafe_code)]

use super::guard::Refusal;
use super::routes::{Answer, Asked, Desk};
use crate::limits;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::LocalSet;
use tokio::time::timeout;

/// After accept(2) failed for want of fds or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until nobody has come for [`limits::API_IDLE`].
pub async fn serve(listener: std::net::TcpListener, desk: Desk) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let desk = Rc::new(desk);
    let seats = Arc::new(Semaphore::new(limits::API_CONNECTIONS));
    let everybody = LocalSet::new();
    everybody
        .run_until(async {
            loop {
                let Ok(seat) = Arc::clone(&seats).acquire_owned().await else { return };
                match timeout(limits::API_IDLE, listener.accept()).await {
                    Ok(Ok((stream, peer))) => {
                        let desk = Rc::clone(&desk);
                        tokio::task::spawn_local(async move {
                            // A connection that fails is its client's affair.
                            let _ = timeout(limits::API_CONNECTION, connection(stream, peer.ip(), desk)).await;
                            drop(seat);
                        });
                    }
                    Ok(Err(_)) => tokio::time::sleep(ACCEPT_PAUSE).await,
                    Err(_) if seats.available_permits() + 1 == limits::API_CONNECTIONS => return,
                    Err(_) => {}
                }
            }
        })
        .await;
    Ok(())
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: IpAddr,
    desk: Rc<Desk>,
) -> Result<(), hyper::Error> {
    let service = service_fn(move |request| {
        let desk = Rc::clone(&desk);
        async move { Ok::<_, Infallible>(respond(request, peer, &desk).await) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::API_READ)
        .max_buf_size(limits::API_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

async fn respond(request: Request<Incoming>, peer: IpAddr, desk: &Desk) -> Response<Full<Bytes>> {
    let answer = match asked(request, peer, desk).await {
        Ok(asked) => desk.answer(&asked).await,
        Err(answer) => answer,
    };
    let mut response = Response::new(Full::new(answer.body.into()));
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    for (name, value) in ALWAYS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    for (name, value) in answer.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    response
}

/// Nothing is stored, framed, sniffed, fetched from elsewhere or told to others.
const ALWAYS: [(&str, &str); 6] = [
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
    ),
];

/// A request that may be answered, its body read as far as a body may go.
async fn asked(request: Request<Incoming>, peer: IpAddr, desk: &Desk) -> Result<Asked, Answer> {
    let (head, body) = request.into_parts();
    desk.guard.check_origin(&head.headers).map_err(refused)?;
    if !Desk::is_open_to_all(head.uri.path()) {
        desk.guard.check_credentials(&head.headers, peer, Instant::now()).map_err(refused)?;
    }
    let body = match head.method {
        Method::GET | Method::HEAD => Bytes::new(),
        _ => match timeout(limits::API_READ, Limited::new(body, limits::API_BODY_BYTES).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                return Err(closing(Answer::message(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large")));
            }
            Ok(Err(_)) => return Err(closing(Answer::message(StatusCode::BAD_REQUEST, "the body cannot be read"))),
            Err(_) => return Err(closing(Answer::message(StatusCode::REQUEST_TIMEOUT, "the body did not come"))),
        },
    };
    let content_type = head.headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or("").to_owned());
    Ok(Asked { method: head.method, path: head.uri.path().to_owned(), content_type, body })
}

fn closing(answer: Answer) -> Answer {
    answer.with(header::CONNECTION, "close".to_owned())
}

fn refused(refusal: Refusal) -> Answer {
    match refusal {
        Refusal::Host => Answer::message(
            StatusCode::MISDIRECTED_REQUEST,
            "this host name is none of ours; ask by address, or name it in OBIT_API_HOSTS",
        ),
        Refusal::Origin => Answer::message(StatusCode::FORBIDDEN, "only the panel's own page may ask from a browser"),
        Refusal::Credentials => Answer::message(StatusCode::UNAUTHORIZED, "name and password, please")
            .with(header::WWW_AUTHENTICATE, "Basic realm=\"obit\", charset=\"UTF-8\"".to_owned()),
        Refusal::Patience(seconds) => Answer::message(StatusCode::TOO_MANY_REQUESTS, "too many wrong passwords")
            .with(header::RETRY_AFTER, seconds.to_string()),
    }
}

#[cfg(test)]
mod properties;
