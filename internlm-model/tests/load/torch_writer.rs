//! Writes what `torch.save` writes: a zip file of stored members, with a pickle of protocol 2.

use candle_core::Tensor;
use safetensors::tensor::Dtype;

use crate::checkpoint::bytes_as;

/// `pytorch_model.bin` of some tensors.
pub(crate) fn torch(tensors: &[(String, Tensor)], dtype: Dtype) -> Vec<u8> {
    let raw = tensors.iter().map(|(name, tensor)| {
        let bytes = bytes_as(tensor, dtype);
        (name.clone(), tensor.dims().to_vec(), dtype, bytes)
    });
    torch_of(&raw.collect::<Vec<_>>())
}

/// `pytorch_model.bin` of tensors that are bytes already.
pub(crate) fn torch_of(tensors: &[(String, Vec<usize>, Dtype, Vec<u8>)]) -> Vec<u8> {
    let mut pickle = b"\x80\x02ccollections\nOrderedDict\n)Rq\x00(".to_vec();
    let mut members = Vec::new();
    for (index, (name, shape, dtype, bytes)) in tensors.iter().enumerate() {
        let storage = match dtype {
            Dtype::F32 => "FloatStorage",
            Dtype::F16 => "HalfStorage",
            Dtype::BF16 => "BFloat16Storage",
            Dtype::F64 => "DoubleStorage",
            Dtype::I32 => "IntStorage",
            Dtype::I8 => "CharStorage",
            other => panic!("{other:?}"),
        };
        let key = index.to_string();
        text(&mut pickle, name);
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut pickle, "storage");
        pickle.extend(format!("ctorch\n{storage}\n").bytes());
        text(&mut pickle, &key);
        text(&mut pickle, "cpu");
        int(&mut pickle, shape.iter().product());
        pickle.extend(b"tQK\x00(");
        shape.iter().for_each(|&d| int(&mut pickle, d));
        pickle.extend(b"t(");
        let strides = (1..=shape.len()).map(|d| shape[d..].iter().product());
        strides.for_each(|s| int(&mut pickle, s));
        pickle.extend(b"t\x89ccollections\nOrderedDict\n)RtR");
        members.push((format!("model/data/{key}"), bytes.clone()));
    }
    // torch sets `_metadata` on the dictionary.
    pickle.extend(b"u}");
    text(&mut pickle, "_metadata");
    pickle.extend(b"}sb.");
    archive(&pickle, members)
}

/// A zip file around a pickle.
pub(crate) fn archive(pickle: &[u8], mut members: Vec<(String, Vec<u8>)>) -> Vec<u8> {
    members.insert(0, ("model/data.pkl".into(), pickle.to_vec()));
    members.push(("model/byteorder".into(), b"little".to_vec()));
    zip(&members)
}

/// A zip file of stored members.
pub(crate) fn zip(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut directory = Vec::new();
    for (name, data) in members {
        let offset = file.len() as u32;
        let mut fields = Vec::new();
        fields.extend([0u8; 8]); // flags, method, time, date
        fields.extend(crc32(data).to_le_bytes());
        fields.extend((data.len() as u32).to_le_bytes());
        fields.extend((data.len() as u32).to_le_bytes());
        fields.extend((name.len() as u16).to_le_bytes());
        fields.extend([0u8; 2]); // extra field
        file.extend(b"PK\x03\x04\x14\x00");
        file.extend(&fields);
        file.extend(name.bytes());
        file.extend(data);
        directory.extend(b"PK\x01\x02\x14\x00\x14\x00");
        directory.extend(&fields);
        directory.extend([0u8; 10]); // comment, disk, attributes
        directory.extend(offset.to_le_bytes());
        directory.extend(name.bytes());
    }
    let start = file.len() as u32;
    file.extend(&directory);
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend((members.len() as u16).to_le_bytes());
    file.extend((members.len() as u16).to_le_bytes());
    file.extend((directory.len() as u32).to_le_bytes());
    file.extend(start.to_le_bytes());
    file.extend([0u8; 2]);
    file
}

fn text(pickle: &mut Vec<u8>, text: &str) {
    pickle.push(b'X');
    pickle.extend((text.len() as u32).to_le_bytes());
    pickle.extend(text.bytes());
}

fn int(pickle: &mut Vec<u8>, value: usize) {
    pickle.push(b'J');
    pickle.extend((value as i32).to_le_bytes());
}

fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ ((crc & 1) * 0xedb8_8320)
        })
    })
}
