use super::number::MAX_BITS;
use super::{CalculatorError, Number, evaluate};

#[track_caller]
fn check(expression: &str, want: &str) {
    match evaluate(expression) {
        Ok(value) => assert_eq!(value.to_string(), want, "{expression}"),
        Err(error) => panic!("{expression}: {error}"),
    }
}

#[test]
fn values() {
    for (expression, want) in [
        ("1+2*3", "7"),
        ("-2^2", "-4"),
        ("2^3^2", "512"),
        ("2**-1", "0.5"),
        ("(1+2)(3+4)", "21"),
        ("2pi/pi", "2"),
        ("10 % 3", "1"),
        ("-7 mod 3", "2"),
        ("-7 // 2", "-4"),
        ("50%", "0.5"),
        ("200*15%+1", "31"),
        ("5!", "120"),
        ("1,234,567 + 1", "1234568"),
        ("max(1,234)", "234"),
        ("max(1, (1,000))", "1000"),
        ("1.5e3", "1500"),
        ("1e-3", "0.001"),
        ("0.1*3", "0.3"),
        ("1/7", "1/7 (about 0.142857142857143)"),
        ("sqrt(16/9)*3", "4"),
        ("√16+1", "5"),
        ("sqrt(2)", "1.4142135623730951"),
        ("round(2.5)", "3"),
        ("round(-2.345, 2)", "-2.35"),
        ("floor(-0.5)+ceil(0.5)", "0"),
        ("gcd(12, 18) + lcm(4, 6)", "18"),
        ("log(8, 2)", "3"),
        ("abs(-3/4)", "0.75"),
        ("３７×１２＋５＝？", "449"),
        ("3加4乘以2除以8", "4"),
        ("3的平方", "9"),
        ("(-1)^1000000001", "-1"),
        ("100 - 3 * ( 4 + 5 ) / 3", "91"),
    ] {
        check(expression, want);
    }
    // The last digit is the mathematical library's of the system.
    assert!((evaluate("log10(1000)").unwrap().to_f64() - 3.0).abs() < 1e-12);
}

#[test]
fn factorials_reach_as_far_as_numbers_do() {
    let Ok(Number::Exact { numerator, .. }) = evaluate("20366!") else {
        panic!("20366! has no value");
    };
    assert!(numerator.bits() <= MAX_BITS);
    assert!((numerator * 20_367_u32).bits() > MAX_BITS);
    let limit = MAX_BITS;
    assert_eq!(evaluate("20367!"), Err(CalculatorError::TooLarge { limit }));
}

#[test]
fn what_has_no_value() {
    for expression in [
        "",
        "1+",
        "(1",
        "1)",
        "1 2",
        "x",
        "sqrt(-1)",
        "1/0",
        "0^-1",
        "2^(10^10)",
        "99999!",
        "ln(0)",
        "gcd(1.5, 2)",
        "max()",
        "sqrt(1, 2)",
        "sqrt 4",
        "1..2",
        "import os",
        "(-8)^(1/3)",
        "1 % 0",
    ] {
        assert!(evaluate(expression).is_err(), "{expression}");
    }
    assert!(evaluate(&"(".repeat(100_000)).is_err());
    assert!(evaluate(&"-".repeat(100_000)).is_err());
    assert!(evaluate(&"2^".repeat(100_000)).is_err());
    assert!(evaluate(&"√".repeat(100_000)).is_err());
}
