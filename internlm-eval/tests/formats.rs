//! Formats of data that are features.

#![allow(clippy::unwrap_used, reason = "a test")]

#[cfg(feature = "gzip")]
#[test]
fn gzip() {
    use std::io::Write;

    use internlm_eval::data::{self, ReadOptions};

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.jsonl.gz");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(b"{\"a\": 1}\n{\"a\": 2}\n").unwrap();
    std::fs::write(&file, packed.finish().unwrap()).unwrap();
    let read = data::read(&[file], &ReadOptions::default()).unwrap();
    assert_eq!(read.rows.len(), 2);
    assert_eq!(read.rows[1]["a"], 2);
}

#[cfg(feature = "parquet")]
#[test]
fn parquet() {
    use std::sync::Arc;

    use internlm_eval::data::{self, ReadOptions};
    use parquet::basic::Compression;
    use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    // A text, a number, and a list of texts as Arrow writes it.
    let schema = "message schema {
        required binary q (UTF8);
        required int64 label;
        required group choices (LIST) { repeated group list { required binary element (UTF8); } }
    }";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("test-00000-of-00001.parquet");
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .build();
    let mut writer = SerializedFileWriter::new(
        std::fs::File::create(&file).unwrap(),
        Arc::new(parse_message_type(schema).unwrap()),
        Arc::new(properties),
    )
    .unwrap();
    let mut group = writer.next_row_group().unwrap();
    let texts = |texts: &[&str]| {
        texts
            .iter()
            .map(|text| ByteArray::from(*text))
            .collect::<Vec<_>>()
    };
    let mut column = group.next_column().unwrap().unwrap();
    column
        .typed::<ByteArrayType>()
        .write_batch(&texts(&["一", "two"]), None, None)
        .unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column
        .typed::<Int64Type>()
        .write_batch(&[1, 0], None, None)
        .unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column
        .typed::<ByteArrayType>()
        .write_batch(&texts(&["a", "b", "c"]), Some(&[1, 1, 1]), Some(&[0, 1, 0]))
        .unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();

    let found = data::find(folder.path(), &["test-*.parquet".to_owned()]).unwrap();
    let read = data::read(&found.files, &ReadOptions::default()).unwrap();
    assert_eq!(read.rows.len(), 2);
    assert_eq!(read.rows[0]["q"], "一");
    assert_eq!(read.rows[0]["label"], 1);
    assert_eq!(read.rows[0]["choices"], serde_json::json!(["a", "b"]));
    assert_eq!(read.rows[1]["choices"], serde_json::json!(["c"]));
}

/// Some files of objects on lines of their own are called `.json`.
#[test]
fn lines_under_the_name_of_json() {
    use internlm_eval::data::{self, ReadOptions};

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dev.json");
    std::fs::write(&file, "{\"a\": 1}\n{\"a\": 2}\n").unwrap();
    let read = data::read(&[file], &ReadOptions::default()).unwrap();
    assert_eq!(read.rows.len(), 2);
    assert_eq!(read.rows[1]["a"], 2);
}
