//! The order of a Python set of whole numbers.

/// Slots behind the first that are looked at in a row.
const LINEAR_PROBES: usize = 9;
/// Bits of the hash that each further jump takes in.
const PERTURB_SHIFT: u32 = 5;
/// A number's hash is its rest.
const HASH_MODULUS: u64 = (1 << 61) - 1;

/// The numbers, each once, in the order in which CPython goes over `{n for n in numbers}`: that of the slots of
/// its hash table. Numbers below 8 are in ascending order, larger ones need not be.
///
/// Source: `set_add_entry`, `set_insert_clean` and `set_table_resize` in `Objects/setobject.c` of CPython 3.7 to
/// 3.13.
pub(crate) fn int_set(numbers: impl IntoIterator<Item = u64>) -> Vec<u64> {
    let mut table: Vec<Option<u64>> = vec![None; 8];
    let mut used = 0;
    for number in numbers {
        let slot = slot(&table, number);
        if table[slot].replace(number).is_some() {
            continue;
        }
        used += 1;
        let mask = table.len() - 1;
        if used * 5 >= mask * 3 {
            let least = used * if used > 50_000 { 2 } else { 4 };
            let old = std::mem::replace(&mut table, vec![None; (least + 1).next_power_of_two()]);
            for number in old.into_iter().flatten() {
                let slot = self::slot(&table, number);
                table[slot] = Some(number);
            }
        }
    }
    table.into_iter().flatten().collect()
}

/// Where a number is, or the free slot where it would be; tables are never full.
fn slot(table: &[Option<u64>], number: u64) -> usize {
    let mask = table.len() - 1;
    let mut perturb = number % HASH_MODULUS;
    let mut at = perturb as usize & mask;
    loop {
        let last = if at + LINEAR_PROBES <= mask {
            at + LINEAR_PROBES
        } else {
            at
        };
        let found = (at..=last).find(|&slot| table[slot].is_none_or(|n| n == number));
        if let Some(slot) = found {
            return slot;
        }
        perturb >>= PERTURB_SHIFT;
        at = at
            .wrapping_mul(5)
            .wrapping_add(1)
            .wrapping_add(perturb as usize)
            & mask;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Printed by CPython 3.11: `list({int(str(n)) for n in numbers})`.
    #[test]
    fn the_order_is_that_of_python() {
        let cases: [(&[u64], &[u64]); 12] = [
            (&[], &[]),
            (&[3, 1, 2], &[1, 2, 3]),
            (&[11, 6], &[11, 6]),
            (&[8, 0, 16], &[8, 0, 16]),
            (&[7, 15, 23, 1], &[1, 15, 23, 7]),
            (&[5, 2, 6, 10], &[2, 10, 5, 6]),
            (&[2, 13, 13, 2, 7, 2], &[2, 13, 7]),
            (
                &[35, 27, 3, 52, 36, 7, 14, 40, 40, 37, 3, 36],
                &[3, 35, 36, 37, 7, 40, 14, 52, 27],
            ),
            (
                &[60, 292, 157, 286, 92, 52, 297, 292, 96],
                &[96, 292, 297, 60, 52, 92, 157, 286],
            ),
            (
                &[
                    388_246_102,
                    321_872_363,
                    266_746_013,
                    852_958_473,
                    193_023_078,
                ],
                &[
                    193_023_078,
                    852_958_473,
                    321_872_363,
                    388_246_102,
                    266_746_013,
                ],
            ),
            (
                &[
                    17_426_290_450_518_894_647,
                    8_220_621_215_424_424_357,
                    6_401_117_268_241_863_454,
                    11_269_476_555_967_248_358,
                ],
                &[
                    8_220_621_215_424_424_357,
                    6_401_117_268_241_863_454,
                    11_269_476_555_967_248_358,
                    17_426_290_450_518_894_647,
                ],
            ),
            (
                &[
                    HASH_MODULUS,
                    2_305_843_009_213_693_952,
                    0,
                    2_305_843_009_213_693_950,
                    8,
                ],
                &[
                    HASH_MODULUS,
                    2_305_843_009_213_693_952,
                    0,
                    8,
                    2_305_843_009_213_693_950,
                ],
            ),
        ];
        for (numbers, order) in cases {
            assert_eq!(int_set(numbers.iter().copied()), order, "{numbers:?}");
        }
    }

    #[test]
    fn a_table_that_grows_many_times_keeps_its_order() {
        let order = int_set((0..3000).map(|i| (i * 7919 + 13) % 100_003));
        assert_eq!(order.len(), 3000);
        let sum = order.iter().fold(0u64, |sum, n| (sum * 31 + n) % (1 << 32));
        assert_eq!(sum, 1_836_366_115);
    }
}
