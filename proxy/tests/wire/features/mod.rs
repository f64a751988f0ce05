//! What routes do besides: who is served, who may log in, redirects, paths, fields, compressed answers.

mod compression;
mod guards;
mod rates;
mod rewriting;

use crate::kit::*;

/// The shop with these labels, and an origin that the test plays.
async fn shop(labels: &[(&str, &str)]) -> (Plane, Origin) {
    shop_with(Options::default(), labels).await
}

async fn shop_with(options: Options, labels: &[(&str, &str)]) -> (Plane, Origin) {
    let origin = Origin::new().await;
    let plane = Plane::with(options, |cluster| {
        cluster.add(origin.address, "shop.test", labels);
    });
    (plane, origin)
}

/// A GET with these fields.
fn get_with(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: shop.test\r\n{fields}\r\n")
}
