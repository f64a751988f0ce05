//! Features in words, for `explain`; passwords and values of fields are not told.

use fairway_config::labels::features::{
    Features, HeaderAction, HeaderEdit, Redirect, RedirectTo, StripPrefix,
};

/// A line for each feature that is asked for, in the order in which they act.
pub(crate) fn lines(asked: &Features) -> Vec<String> {
    let Features {
        allow,
        rate_limit,
        client_rate_limit,
        auth,
        redirect,
        strip_prefix,
        add_prefix,
        request_headers,
        response_headers,
        compress,
    } = asked;
    let mut lines = Vec::new();
    if let Some(networks) = allow {
        let listed: Vec<String> = networks.iter().take(8).map(ToString::to_string).collect();
        let more = networks.len().saturating_sub(8);
        lines.push(match (networks.len(), more) {
            (0, _) => "allow: nobody".to_owned(),
            (_, 0) => format!("allow: {}", listed.join(", ")),
            _ => format!("allow: {} and {more} more", listed.join(", ")),
        });
    }
    for (key, limit) in [("rate_limit", rate_limit), ("rate_limit.client", client_rate_limit)] {
        lines.extend(limit.map(|limit| format!("{key}: {limit}")));
    }
    if let Some(auth) = auth {
        let goes = if auth.forward { ", passed on to the instance" } else { "" };
        lines.push(format!("auth: basic, users: {}, realm: {}{goes}", auth.users.len(), auth.realm));
    }
    if let Some(redirect) = redirect {
        lines.push(format!("redirect: {}", self::redirect(redirect)));
    }
    match strip_prefix {
        Some(StripPrefix::Route) => lines.push("strip_prefix: the path of the route".to_owned()),
        Some(StripPrefix::Path(path)) => lines.push(format!("strip_prefix: {path}")),
        None => {}
    }
    if let Some(path) = add_prefix {
        lines.push(format!("add_prefix: {path}"));
    }
    for (side, edits) in [("request", request_headers), ("response", response_headers)] {
        if let Some(edits) = edits {
            lines.push(format!("headers.{side}: {}", edits.iter().map(edit).collect::<Vec<_>>().join("; ")));
        }
    }
    if let Some(codings) = compress.as_ref().filter(|codings| !codings.is_empty()) {
        let codings: Vec<String> =
            codings.iter().map(|one| format!("{}:{}", one.coding.as_str(), one.level)).collect();
        lines.push(format!("compress: {}", codings.join(", ")));
    }
    lines
}

fn edit(edit: &HeaderEdit) -> String {
    let word = match edit.action {
        HeaderAction::Set => "set",
        HeaderAction::Add => "add",
        HeaderAction::Remove => "remove",
    };
    format!("{word} {}", edit.name)
}

fn redirect(redirect: &Redirect) -> String {
    let status = redirect.status;
    match &redirect.to {
        RedirectTo::Www => format!("www {status}"),
        RedirectTo::Apex => format!("apex {status}"),
        RedirectTo::Url(target) => {
            let mut url = String::new();
            if let Some(origin) = &target.origin {
                url.push_str(if origin.secure { "https://" } else { "http://" });
                url.push_str(origin.host.as_deref().unwrap_or("{host}"));
                url.extend(origin.port.map(|port| format!(":{port}")));
            }
            url.push_str(&target.path);
            url.push_str(if target.keeps_path { "{path}" } else { "" });
            url.extend(target.query.as_ref().map(|query| format!("?{query}")));
            format!("{url} {status}")
        }
    }
}

#[cfg(test)]
mod tests {
    use fairway_config::labels;

    use super::*;

    #[test]
    fn every_feature_has_a_line_without_secrets() {
        let parsed = labels::parse([
            ("fairway.allow", "10.0.0.0/8"),
            ("fairway.auth.basic", "a:{SHA256}n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg="),
            ("fairway.rate_limit", "100/s burst 200"),
            ("fairway.rate_limit.client", "60/m"),
            ("fairway.redirect", "https://{host}:8443/a{path}?x 308"),
            ("fairway.strip_prefix", "/api"),
            ("fairway.add_prefix", "/v2"),
            ("fairway.headers.request", "set Authorization: Bearer s3cret"),
            ("fairway.headers.response", "remove Server; add X: y"),
            ("fairway.compress", "br:5, gzip"),
        ]);
        assert_eq!(parsed.problems, []);
        assert_eq!(
            lines(&parsed.spec.features),
            [
                "allow: 10.0.0.0/8",
                "rate_limit: 100/s burst 200",
                "rate_limit.client: 60/m burst 1",
                "auth: basic, users: 1, realm: restricted",
                "redirect: https://{host}:8443/a{path}?x 308",
                "strip_prefix: /api",
                "add_prefix: /v2",
                "headers.request: set Authorization",
                "headers.response: remove Server; add X",
                "compress: br:5, gzip:5",
            ]
        );
    }
}
