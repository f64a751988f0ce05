//! Durations as people write them: `500ms`, `3s`, `1m`, `2h`.
