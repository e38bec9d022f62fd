//! Products of dense weights: kernels against candle, shapes, and gradients.

use candle_core::{DType, Device, Tensor, Var};
use internlm_kernels::{Activation, Compute};
use internlm_quant::{Error, Weight};
use proptest::prelude::*;

fn compute() -> Compute {
    Compute::new(Some(2)).expect("two threads")
}

/// Values in -1..1 that bf16 and f16 hold exactly.
fn tensor(shape: impl Into<candle_core::Shape>, seed: usize) -> Tensor {
    let shape = shape.into();
    let value = |i: usize| ((i * 7919 + seed * 104_729) % 127) as f32 / 64.0 - 1.0;
    let values: Vec<f32> = (0..shape.elem_count()).map(value).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).expect("a tensor")
}

fn max_diff(a: &Tensor, b: &Tensor) -> f32 {
    let diff = (a - b).and_then(|d| d.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>());
    diff.expect("f32 of one shape")
}

proptest! {
    #[test]
    fn kernels_agree_with_candle(m in 1usize..20, n in 1usize..70, k in 1usize..130, bias: bool) {
        let compute = compute();
        let x = tensor((m, k), 1);
        let bias = bias.then(|| tensor(n, 2));
        for dtype in [DType::F32, DType::BF16, DType::F16] {
            let weight = Weight::Dense(tensor((n, k), 3).to_dtype(dtype)?);
            prop_assert_eq!(weight.shape(), (n, k));
            prop_assert_eq!(weight.bytes(), n * k * dtype.size_in_bytes());
            let ours = weight.matmul(&x, bias.as_ref(), &compute, Activation::F32)?;
            let candles = weight.matmul_tensor(&x, bias.as_ref())?;
            prop_assert_eq!(ours.dims(), &[m, n]);
            prop_assert!(max_diff(&ours, &candles) <= 1e-5 * k as f32);
        }
    }
}

#[test]
fn rows_of_a_fused_weight_need_no_copy() -> Result<(), Error> {
    let all = tensor((12, 16), 1);
    let part = Weight::Dense(all.narrow(0, 4, 5)?);
    let x = tensor((3, 16), 2);
    let ours = part.matmul(&x, None, &compute(), Activation::F32)?;
    assert!(max_diff(&ours, &part.matmul_tensor(&x, None)?) < 1e-5);
    Ok(())
}

#[test]
fn gradients_reach_input_weight_and_bias() -> Result<(), Error> {
    let (x, w, b) = (
        Var::from_tensor(&tensor((3, 8), 1))?,
        Var::from_tensor(&tensor((5, 8), 2))?,
        Var::from_tensor(&tensor(5, 3))?,
    );
    let weight = Weight::Dense(w.as_tensor().clone());
    let y = weight.matmul_tensor(x.as_tensor(), Some(b.as_tensor()))?;
    let gradients = y.sum_all()?.backward()?;
    // The derivative of the sum by x is the sum of the weight's rows, and so on.
    let of = |v: &Var| {
        gradients
            .get(v.as_tensor())
            .expect("has a gradient")
            .clone()
    };
    assert!(max_diff(&of(&x), &w.sum_keepdim(0)?.broadcast_as((3, 8))?) < 1e-5);
    assert!(max_diff(&of(&w), &x.sum_keepdim(0)?.broadcast_as((5, 8))?) < 1e-5);
    assert!(max_diff(&of(&b), &Tensor::new(&[3f32; 5], &Device::Cpu)?) < 1e-5);
    Ok(())
}

#[test]
fn wrong_shapes_dtypes_and_layouts_are_refused() -> Result<(), Error> {
    let compute = compute();
    let weight = Weight::Dense(tensor((5, 8), 1));
    let product = |weight: &Weight, x: &Tensor, bias: Option<&Tensor>| {
        weight.matmul(x, bias, &compute, Activation::F32).err()
    };
    let shape = |error| matches!(error, Some(Error::Shape { .. }));
    assert!(shape(product(&weight, &tensor((3, 7), 1), None)));
    assert!(shape(product(&weight, &tensor(8, 1), None)));
    assert!(shape(product(
        &weight,
        &tensor((3, 8), 1),
        Some(&tensor(4, 1))
    )));
    assert!(shape(product(
        &Weight::Dense(tensor(8, 1)),
        &tensor((3, 8), 1),
        None
    )));
    assert!(shape(weight.matmul_tensor(&tensor((3, 7), 1), None).err()));
    let half = tensor((3, 8), 1).to_dtype(DType::F16)?;
    assert!(matches!(
        product(&weight, &half, None),
        Some(Error::Dtype { what: "x", .. })
    ));
    let bytes = Weight::Dense(Tensor::zeros((5, 8), DType::U8, &Device::Cpu)?);
    let x = tensor((3, 8), 1);
    assert!(matches!(
        product(&bytes, &x, None),
        Some(Error::Dtype { what: "weight", .. })
    ));
    let turned = Weight::Dense(tensor((8, 5), 1).t()?);
    assert!(matches!(
        product(&turned, &x, None),
        Some(Error::Layout { what: "weight" })
    ));
    let turned = tensor((8, 3), 1).t()?;
    assert!(matches!(
        product(&weight, &turned, None),
        Some(Error::Layout { what: "x" })
    ));
    Ok(())
}
