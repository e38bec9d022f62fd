use super::*;

/// Applies a vector function to a slice of `MAX_LANES` numbers.
struct Map<'a, F>(F, &'a [f32; MAX_LANES], &'a mut [f32; MAX_LANES]);

trait VectorFn {
    fn call<S: Simd>(&self, s: S, x: S::V) -> S::V;
}

impl<F: VectorFn> Kernel for Map<'_, F> {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for lane in (0..MAX_LANES).step_by(S::LANES) {
            let y = self.0.call(s, s.load_some(&self.1[lane..lane + S::LANES]));
            s.store_some(&mut self.2[lane..lane + S::LANES], y);
        }
    }
}

struct Exp;

impl VectorFn for Exp {
    #[inline(always)]
    fn call<S: Simd>(&self, s: S, x: S::V) -> S::V {
        exp(s, x)
    }
}

fn exp_of(isa: Isa, x: [f32; MAX_LANES]) -> [f32; MAX_LANES] {
    let mut y = [0.0; MAX_LANES];
    if dispatch(isa, Map(Exp, &x, &mut y)).is_err() {
        y = x.map(f32::exp);
    }
    y
}

#[test]
fn exp_is_close_over_its_range() {
    for isa in Isa::available() {
        let mut worst = 0.0f64;
        for step in 0..110_000 {
            let x: [f32; MAX_LANES] =
                std::array::from_fn(|lane| -87.3 + 1.6e-3 * step as f32 + 1e-4 * lane as f32);
            for (x, y) in x.into_iter().zip(exp_of(isa, x)).filter(|(x, _)| *x < 88.3) {
                let want = f64::from(x).exp();
                worst = worst.max((f64::from(y) - want).abs() / want);
            }
        }
        assert!(worst < 1.5e-7, "{isa}: {worst:e}");
    }
}

#[test]
fn exp_keeps_the_edges() {
    for isa in Isa::available() {
        let mut x = [0.0; MAX_LANES];
        x[1..6].copy_from_slice(&[f32::NEG_INFINITY, f32::INFINITY, f32::NAN, -200.0, -0.0]);
        let y = exp_of(isa, x);
        assert_eq!(
            (y[0], y[1], y[2], y[4], y[5]),
            (1.0, 0.0, f32::INFINITY, 0.0, 1.0),
            "{isa}"
        );
        assert!(y[3].is_nan(), "{isa}");
    }
}

/// Loads and sums of every kind against scalar code.
struct Loads;

impl Kernel for Loads {
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let numbers: [f32; 2 * MAX_LANES] = std::array::from_fn(|i| 0.5 * i as f32 - 3.0);
        let halves = numbers.map(f16::from_f32);
        let upper = numbers.map(bf16::from_f32);
        let read = |v: S::V| {
            let mut lanes = vec![0.0; S::LANES];
            s.store_some(&mut lanes, v);
            lanes
        };
        let in_order = &numbers[..S::LANES];
        let every_second =
            |first: usize| -> Vec<f32> { (0..S::LANES).map(|i| numbers[2 * i + first]).collect() };
        // SAFETY: all arrays hold twice the lanes of the widest vectors.
        unsafe {
            assert_eq!(read(s.load(numbers.as_ptr())), in_order);
            assert_eq!(read(s.load_f16(halves.as_ptr())), in_order);
            assert_eq!(read(s.load_bf16(upper.as_ptr())), in_order);
            assert_eq!(read(s.load_bf16_even(upper.as_ptr())), every_second(0));
            assert_eq!(read(s.load_bf16_odd(upper.as_ptr())), every_second(1));
        }
        let bytes: [u8; 4 * MAX_LANES] = std::array::from_fn(|i| (i * 77) as u8);
        for shift in [0, 4, 8, 28] {
            // SAFETY: `bytes` holds the dwords of the widest vectors.
            let codes = read(unsafe { s.load_codes(bytes.as_ptr(), shift, 15) });
            let dwords = bytes.as_chunks::<4>().0[..S::LANES].iter();
            let want = dwords.map(|&dword| (u32::from_le_bytes(dword) >> shift & 15) as f32);
            assert_eq!(codes, want.collect::<Vec<_>>());
        }
        assert_eq!(
            read(s.load_some(&halves[..3]))[..4],
            [-3.0, -2.5, -2.0, 0.0]
        );
        let v = s.load_some(in_order);
        let sums = s.sum4([v, s.splat(1.0), s.zero(), s.mul(v, v)]);
        let squares: f32 = in_order.iter().map(|x| x * x).sum();
        assert_eq!(sums, [in_order.iter().sum(), S::LANES as f32, 0.0, squares]);
        assert_eq!(s.sum(v), sums[0]);
        assert_eq!(s.max_lane(v), in_order[S::LANES - 1]);
        assert!(read(s.max(s.splat(1.0), s.splat(f32::NAN)))[0].is_nan());
        assert!(read(s.min(s.splat(1.0), s.splat(f32::NAN)))[0].is_nan());
        assert_eq!(
            read(s.round(s.div(v, s.splat(0.3))))[..3],
            [-10.0, -8.0, -7.0]
        );
    }
}

#[test]
fn loads_sums_and_maxima_agree_with_scalar_code() {
    for isa in Isa::available() {
        assert_eq!(dispatch(isa, Loads).is_ok(), isa != Isa::Scalar);
    }
}
