//! Limits of the tools for images.

use std::fs;

use internlm_agent::tool::ToolError;
use internlm_agent::tools::images::ImageConfig;
use serde_json::{Value, json};

use crate::images::{call_with, folder};

/// CRC-32 as PNG wants it.
fn crc(bytes: &[u8]) -> u32 {
    let step = |crc: u32| (0..8).fold(crc, |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)));
    !bytes
        .iter()
        .fold(!0, |crc, byte| step(crc ^ u32::from(*byte)))
}

/// A PNG that says that it has 60000 x 60000 pixels: 14 GB when decoded.
fn bomb(small: &[u8]) -> Vec<u8> {
    let mut bytes = small.to_vec();
    bytes[16..20].copy_from_slice(&60_000_u32.to_be_bytes());
    bytes[20..24].copy_from_slice(&60_000_u32.to_be_bytes());
    let sum = crc(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&sum.to_be_bytes());
    bytes
}

#[test]
fn limits_hold() {
    let folder = folder();
    let small = fs::read(folder.path().join("a.png")).unwrap();
    assert_eq!(crc(&small[12..29]).to_be_bytes(), small[29..33]);
    fs::write(folder.path().join("bomb.png"), bomb(&small)).unwrap();
    let limit = |config: &ImageConfig, name: &str, arguments: Value| {
        let error = call_with(&folder, config, name, arguments.clone()).unwrap_err();
        assert!(
            matches!(error, ToolError::Limit { .. }),
            "{arguments}: {error}"
        );
    };
    let usual = ImageConfig::default();
    limit(&usual, "image_info", json!({"path": "bomb.png"}));
    limit(
        &usual.clone().with_max_side(100_000),
        "image_info",
        json!({"path": "bomb.png"}),
    );
    limit(
        &usual.clone().with_max_pixels(799),
        "image_info",
        json!({"path": "a.png"}),
    );
    limit(
        &usual.clone().with_max_bytes(10),
        "image_info",
        json!({"path": "a.png"}),
    );
    limit(
        &usual,
        "image_resize",
        json!({"path": "a.png", "width": 4294967295_u32}),
    );
    limit(
        &usual,
        "image_resize",
        json!({"path": "a.png", "height": 10_000}),
    );
    limit(
        &usual,
        "image_resize",
        json!({"path": "a.png", "width": 1, "height": 16_000, "fit": "fill"}),
    );
    // Each of them, by the image that it reads.
    let few = usual.clone().with_max_pixels(799);
    for (name, mut arguments) in [
        ("image_info", json!({})),
        (
            "image_crop",
            json!({"x": 0, "y": 0, "width": 1, "height": 1}),
        ),
        ("image_resize", json!({"width": 1})),
        ("image_rotate", json!({"degrees": 90})),
        ("image_convert", json!({"output": "b.bmp"})),
        ("image_edges", json!({})),
        ("image_draw_boxes", json!({"boxes": []})),
    ] {
        arguments["path"] = "a.png".into();
        limit(&few, name, arguments);
    }
    let boxes = vec![json!({"x1": 0, "y1": 0, "x2": 1, "y2": 1}); 201];
    limit(
        &usual,
        "image_draw_boxes",
        json!({"path": "a.png", "boxes": boxes}),
    );
}
