//! Tools for images, on files that are made here.

use std::fs;
use std::io::Cursor;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage};
use internlm_agent::tool::{MediaSource, OutputPart, Tool, ToolContext, ToolError, ToolOutput};
use internlm_agent::tools::Root;
use internlm_agent::tools::images::{ImageConfig, tools};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A folder with images, all 40 x 20: red on the left, blue on the right.
pub(crate) fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let halves = RgbImage::from_fn(40, 20, |x, _| match x < 20 {
        true => Rgb([255, 0, 0]),
        false => Rgb([0, 0, 255]),
    });
    for name in ["a.png", "a.jpg", "a.webp", "a.gif", "a.bmp"] {
        let format = ImageFormat::from_path(name).unwrap();
        let mut bytes = Cursor::new(Vec::new());
        let image = match format {
            ImageFormat::Gif => DynamicImage::ImageRgb8(halves.clone()).to_rgba8().into(),
            _ => DynamicImage::ImageRgb8(halves.clone()),
        };
        image.write_to(&mut bytes, format).unwrap();
        fs::write(folder.path().join(name), bytes.into_inner()).unwrap();
    }
    fs::write(folder.path().join("a.txt"), "no image").unwrap();
    fs::write(
        folder.path().join("cut.png"),
        &fs::read(folder.path().join("a.png")).unwrap()[..60],
    )
    .unwrap();
    folder
}

pub(crate) fn call_with(
    folder: &TempDir,
    config: &ImageConfig,
    name: &str,
    arguments: Value,
) -> Result<ToolOutput, ToolError> {
    let tools = tools(&Root::open(folder.path()).unwrap(), config);
    let tool = tools.iter().find(|tool| tool.spec().name == name).unwrap();
    tool.call(&arguments, &ToolContext::default())
}

fn call(folder: &TempDir, name: &str, arguments: Value) -> Result<ToolOutput, ToolError> {
    call_with(folder, &ImageConfig::default(), name, arguments)
}

/// What a call says, and the image that it wrote.
fn made(folder: &TempDir, name: &str, arguments: Value) -> (String, DynamicImage) {
    let output = call(folder, name, arguments).unwrap();
    let [OutputPart::Json { value }, OutputPart::Image { image }] = output.parts.as_slice() else {
        panic!("{output:?}");
    };
    let MediaSource::Path(path) = &image.source else {
        panic!("{output:?}");
    };
    assert_eq!(value["path"].as_str().unwrap(), path.to_str().unwrap());
    let read = image::open(folder.path().join(path)).unwrap();
    assert_eq!(value["width"], read.width());
    assert_eq!(value["height"], read.height());
    assert_eq!(
        image.mime,
        ImageFormat::from_path(path).unwrap().to_mime_type()
    );
    (path.to_str().unwrap().to_owned(), read)
}

fn pixel(image: &DynamicImage, x: u32, y: u32) -> [u8; 3] {
    image.to_rgb8().get_pixel(x, y).0
}

const RED: [u8; 3] = [255, 0, 0];
const BLUE: [u8; 3] = [0, 0, 255];

#[test]
fn an_image_is_described() {
    let folder = folder();
    for (name, format) in [
        ("a.png", "png"),
        ("a.jpg", "jpeg"),
        ("a.webp", "webp"),
        ("a.gif", "gif"),
        ("a.bmp", "bmp"),
    ] {
        let output = call(&folder, "image_info", json!({"path": name})).unwrap();
        let told: Value = serde_json::from_str(&output.to_text()).unwrap();
        assert_eq!(
            (&told["width"], &told["height"]),
            (&json!(40), &json!(20)),
            "{name}"
        );
        assert_eq!(
            (&told["format"], &told["color"]),
            (&json!(format), &json!("color")),
            "{name}"
        );
        assert_eq!(told["bits_per_channel"], 8, "{name}");
    }
}

#[test]
fn images_are_cropped_resized_turned_and_converted() {
    let folder = folder();
    let (path, image) = made(
        &folder,
        "image_crop",
        json!({"path": "a.png", "x": 15, "y": 0, "width": 10, "height": 5}),
    );
    assert_eq!(
        (path.as_str(), image.width(), image.height()),
        ("a-crop.png", 10, 5)
    );
    assert_eq!((pixel(&image, 4, 4), pixel(&image, 5, 0)), (RED, BLUE));
    // The next one does not take its place.
    let (path, _) = made(
        &folder,
        "image_crop",
        json!({"path": "a.png", "x": 0, "y": 0, "width": 1, "height": 1}),
    );
    assert_eq!(path, "a-crop-2.png");

    for (arguments, want) in [
        (json!({"width": 20}), (20, 10)),
        (json!({"height": 5}), (10, 5)),
        (json!({"width": 10, "height": 10}), (10, 5)),
        (json!({"width": 10, "height": 10, "fit": "fill"}), (10, 10)),
        (
            json!({"width": 10, "height": 30, "fit": "stretch"}),
            (10, 30),
        ),
        (json!({"width": 1}), (1, 1)),
    ] {
        let mut arguments = arguments;
        arguments["path"] = "a.png".into();
        let (_, image) = made(&folder, "image_resize", arguments.clone());
        assert_eq!((image.width(), image.height()), want, "{arguments}");
    }

    let (path, image) = made(
        &folder,
        "image_rotate",
        json!({"path": "a.png", "degrees": 90}),
    );
    assert_eq!(
        (path.as_str(), image.width(), image.height()),
        ("a-rotate.png", 20, 40)
    );
    // What was on the left is above.
    assert_eq!((pixel(&image, 10, 0), pixel(&image, 10, 39)), (RED, BLUE));
    let (_, image) = made(
        &folder,
        "image_rotate",
        json!({"path": "a.png", "degrees": -270, "mirror": true}),
    );
    assert_eq!((pixel(&image, 10, 0), pixel(&image, 10, 39)), (RED, BLUE));
    let (_, image) = made(
        &folder,
        "image_rotate",
        json!({"path": "a.png", "mirror": true}),
    );
    assert_eq!((pixel(&image, 0, 0), pixel(&image, 39, 0)), (BLUE, RED));

    for ending in ["png", "jpg", "webp", "gif", "bmp"] {
        let output = format!("out/b.{ending}");
        let (path, image) = made(
            &folder,
            "image_convert",
            json!({"path": "a.png", "output": output}),
        );
        assert_eq!(path, output);
        let [red, _, blue] = pixel(&image, 5, 5);
        assert!(red > 230 && blue < 30, "{ending}: {red} {blue}");
    }
    let (_, image) = made(
        &folder,
        "image_convert",
        json!({"path": "a.png", "output": "g.png", "gray": true}),
    );
    assert!(!image.color().has_color());

    // Nothing is white where there is no transparency.
    let clear = RgbaImage::from_pixel(4, 4, Rgba([0, 0, 0, 0]));
    clear.save(folder.path().join("clear.png")).unwrap();
    let (_, image) = made(
        &folder,
        "image_convert",
        json!({"path": "clear.png", "output": "clear.jpg"}),
    );
    assert_eq!(pixel(&image, 1, 1), [255; 3]);
}

#[test]
fn edges_and_boxes_are_drawn() {
    let folder = folder();
    // As bright, red and blue differ by 47 of 255: a step of 187.
    let (path, image) = made(
        &folder,
        "image_edges",
        json!({"path": "a.png", "low": 50, "high": 100}),
    );
    assert_eq!(path, "a-edges.png");
    let white: Vec<u32> = (0..40)
        .filter(|&x| pixel(&image, x, 10) == [255; 3])
        .collect();
    assert_eq!(white, [19]);
    let (_, image) = made(&folder, "image_edges", json!({"path": "a.png"}));
    assert!(image.to_luma8().pixels().all(|pixel| pixel.0[0] == 0));

    let boxes = json!([
        {"x1": 2, "y1": 10, "x2": 12, "y2": 18, "color": "#00ff00"},
        {"x1": 30, "y1": -5, "x2": 100, "y2": 300, "label": "Katze 数 97%"},
        {"x1": -2147483648_i64, "y1": 5, "x2": 2147483647, "y2": 5},
    ]);
    let (path, image) = made(
        &folder,
        "image_draw_boxes",
        json!({"path": "a.png", "boxes": boxes, "thickness": 2}),
    );
    assert_eq!(path, "a-boxes.png");
    let green = [0, 255, 0];
    for (x, y, want) in [
        (2, 10, green),
        (3, 14, green),
        (4, 14, RED),
        (12, 18, green),
        (13, 18, RED),
        (0, 5, [0, 130, 200]),
    ] {
        assert_eq!(pixel(&image, x, y), want, "{x} {y}");
    }
}

#[test]
fn arguments_that_do_not_fit_are_refused() {
    let folder = folder();
    for (name, arguments) in [
        ("image_info", json!({})),
        (
            "image_crop",
            json!({"path": "a.png", "x": 0, "y": 0, "width": 41, "height": 1}),
        ),
        (
            "image_crop",
            json!({"path": "a.png", "x": 0, "y": 0, "width": 0, "height": 1}),
        ),
        (
            "image_crop",
            json!({"path": "a.png", "x": 4294967295_u32, "y": 0, "width": 1, "height": 1}),
        ),
        (
            "image_crop",
            json!({"path": "a.png", "x": -1, "y": 0, "width": 1, "height": 1}),
        ),
        ("image_resize", json!({"path": "a.png"})),
        ("image_resize", json!({"path": "a.png", "width": 0})),
        (
            "image_resize",
            json!({"path": "a.png", "width": 9, "fit": "best"}),
        ),
        ("image_rotate", json!({"path": "a.png", "degrees": 45})),
        ("image_convert", json!({"path": "a.png"})),
        ("image_edges", json!({"path": "a.png", "low": 2, "high": 1})),
        ("image_edges", json!({"path": "a.png", "blur": 11})),
        (
            "image_draw_boxes",
            json!({"path": "a.png", "boxes": [{"x1": 5, "y1": 0, "x2": 4, "y2": 1}]}),
        ),
        (
            "image_draw_boxes",
            json!({"path": "a.png", "boxes": [{"x1": 0, "y1": 0, "x2": 4, "y2": 1, "color": "red"}]}),
        ),
    ] {
        let error = call(&folder, name, arguments.clone()).unwrap_err();
        assert!(
            matches!(error, ToolError::Arguments { .. }),
            "{name} {arguments}: {error}"
        );
    }
    for (path, want) in [
        (
            "a.txt",
            "`a.txt` is no image in PNG, JPEG, WebP, GIF or BMP",
        ),
        ("none.png", "there is no `none.png`"),
    ] {
        let error = call(&folder, "image_info", json!({"path": path})).unwrap_err();
        assert_eq!(error.to_string(), want);
    }
    let error = call(&folder, "image_info", json!({"path": "cut.png"})).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("`cut.png` can't be read as an image: "),
        "{error}"
    );
    let error = call(
        &folder,
        "image_convert",
        json!({"path": "a.png", "output": "b.tiff"}),
    )
    .unwrap_err();
    assert!(error.to_string().contains(".png, .jpg"), "{error}");
    for arguments in [
        json!({"path": "../a.png", "output": "b.png"}),
        json!({"path": "a.png", "output": "../b.png"}),
        json!({"path": "a.png", "output": "/tmp/b.png"}),
    ] {
        let error = call(&folder, "image_convert", arguments.clone()).unwrap_err();
        assert!(
            matches!(error, ToolError::Denied { .. }),
            "{arguments}: {error}"
        );
    }
}
