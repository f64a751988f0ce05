//! Where a request would go, and why.

use std::net::{IpAddr, Ipv4Addr};

use axum::Json;
use axum::extract::State;
use fairway_proxy::explain::{Explanation, explain as explain_request};
use fairway_proxy::request::{FieldList, RequestView};
use http::{Method, Uri};

use crate::extract::{Parameters, bad_query};
use crate::problem::Refusal;
use crate::state::AppState;

/// A request that nobody sent.
#[derive(Debug, PartialEq)]
struct Asked {
    secure: bool,
    host: String,
    path: String,
    query: Option<String>,
    method: Method,
    client: IpAddr,
    fields: Vec<(String, Vec<u8>)>,
}

/// Which route and rule a request would meet, why, which instance would serve it, and why not the others.
#[utoipa::path(
    get,
    path = "/api/v1/explain",
    tag = "cluster",
    params(
        ("url" = String, Query, description = "`http://shop.company.com/cart`"),
        ("method" = Option<String>, Query, description = "Default GET"),
        ("header" = Option<Vec<String>>, Query, description = "`name:value`, may be repeated"),
        ("client" = Option<String>, Query, description = "The client's address; default 127.0.0.1"),
    ),
    responses(
        (status = 200, body = Explanation, description = "The whole decision"),
        (status = 400, body = Refusal, content_type = "application/problem+json", description = "The query cannot be read"),
    )
)]
pub(super) async fn explain(State(app): AppState, query: Parameters) -> Result<Json<Explanation>, Refusal> {
    let asked = read(&query)?;
    let fields = FieldList(asked.fields);
    let internal = app.catalog().internal.contains(asked.client);
    let request = RequestView {
        host: &asked.host,
        path: &asked.path,
        query: asked.query.as_deref(),
        method: asked.method.as_str(),
        client: asked.client,
        internal,
        secure: asked.secure,
        fields: &fields,
    };
    Ok(Json(explain_request(&app.state.table.load(), &request)))
}

fn read(query: &Parameters) -> Result<Asked, Refusal> {
    let url =
        query.get("url").ok_or_else(|| bad_query("there is no `url`, such as `http://shop.company.com/`"))?;
    let with_scheme = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let wrong = |why: &str| bad_query(format!("`{url}` is not a URL: {why}"));
    let uri: Uri = with_scheme.parse().map_err(|error: http::uri::InvalidUri| wrong(&error.to_string()))?;
    let secure = match uri.scheme_str() {
        Some("http" | "ws") => false,
        Some("https" | "wss") => true,
        _ => return Err(wrong("the schemes are http, https, ws and wss")),
    };
    let host = uri.host().unwrap_or_default().trim_end_matches('.').to_ascii_lowercase();
    if host.is_empty() {
        return Err(wrong("it has no host"));
    }
    let method = query.get("method").unwrap_or("GET").to_ascii_uppercase();
    let method = method.parse().map_err(|_| bad_query(format!("`{method}` is not a method")))?;
    let client = query.get("client").map(|text| {
        text.parse::<IpAddr>().map_err(|_| bad_query(format!("client: `{text}` is not an address")))
    });
    Ok(Asked {
        secure,
        host,
        path: uri.path().to_owned(),
        query: uri.query().map(str::to_owned),
        method,
        client: client.transpose()?.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        fields: query.all("header").map(field).collect::<Result<_, _>>()?,
    })
}

fn field(text: &str) -> Result<(String, Vec<u8>), Refusal> {
    match text.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_ascii_lowercase(), value.trim().as_bytes().to_vec()))
        }
        _ => Err(bad_query(format!("header: `{text}` is not `name:value`"))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_url_is_read_or_refused(url in "\\PC{0,40}|(https?|ws)://[a-zA-Z.:@/?#%0-9\\[\\]]{0,30}", header in "\\PC{0,10}") {
            let query = Parameters::from_pairs(&[("url", &url), ("header", &header)]);
            if let Ok(asked) = read(&query) {
                prop_assert!(!asked.host.is_empty() && asked.path.starts_with('/'), "{:?}", asked);
            }
        }
    }
}
