//! How the table of `benches/compiler` reads an assembly, and how it compares figures with those recorded.

#[path = "../benches/compiler/floors.rs"]
mod floors;
#[path = "../benches/compiler/hot_loop.rs"]
mod hot_loop;

use floors::Floors;
use hot_loop::{HotLoop, hottest};

/// A loop over K that contains a loop over a tile, and a loop after it that has fewer products.
const NESTED: &str = "
BB0:
	v_fma_f32 v0, v1, v2, v0                        ; d6130000
BB1:
	s_waitcnt lgkmcnt(0)
	ds_store_b128 v4, v[0:3]
BB2:
	ds_load_b128 v[4:7], v9
	s_waitcnt lgkmcnt(0)
	v_fmac_f32_e32 v0, v4, v5
	v_fmac_f32_e32 v1, v4, v6
	v_add_nc_u32_e32 v9, 16, v9
	s_add_i32 s0, s0, 1
	s_cbranch_scc1 BB2                              ; bf85fff0
	s_cbranch_scc0 BB1
BB3:
	v_fma_f32 v0, v1, v2, v0
	s_cbranch_vccnz BB3
	s_branch BB4
BB4:
	s_endpgm
";

#[test]
fn the_hottest_loop_is_an_innermost_one_with_most_products() {
    let hot = hottest(NESTED).expect("a loop with products");
    assert_eq!(hot, HotLoop { all: 7, products: 2, by_matrices: false, loads: 1, scalars: 3, aside: 0 });
    assert!((hot.share() - 2.0 / 7.0).abs() < 1e-9 && (hot.loads_per_product() - 0.5).abs() < 1e-9);
}

/// An outer loop counts where the loops in it have no products, such as one that rescales sums now and then. What they have
/// is told aside.
#[test]
fn a_loop_without_products_hides_none_around_it_and_is_told_aside() {
    let rescaling = "BB0:\n v_fma_f32 v0, v1, v2, v0\nBB1:\n ds_write_b128 v4, v[0:3]\n s_cbranch_scc1 BB1\n s_cbranch_scc1 BB0\n";
    assert_eq!(hottest(rescaling).map(|hot| (hot.all, hot.products, hot.aside)), Some((2, 1, 2)));
    assert_eq!(hottest("BB0:\n v_fma_f32 v0, v1, v2, v0\n s_endpgm\n"), None, "no loop");
    assert_eq!(hottest("BB0:\n v_add_f32 v0, v1, v2\n s_cbranch_scc1 BB0\n"), None, "no product");
}

/// One product of matrices is worth thousands of others, whose number says nothing beside it.
#[test]
fn products_of_matrices_come_before_others() {
    let both = "BB0:\n v_wmma_f32_16x16x16_f16 v[0:7], v[8:15], v[16:23], v[0:7]\n v_fma_f32 v0, v1, v2, v0\n s_cbranch_scc1 BB0
BB1:\n v_fma_f32 v0, v1, v2, v0\n v_fma_f32 v0, v1, v2, v0\n s_cbranch_scc1 BB1\n";
    assert_eq!(hottest(both), Some(HotLoop { all: 3, products: 1, by_matrices: true, loads: 0, scalars: 1, aside: 0 }));
}

fn floors(waves: u64, hot: HotLoop) -> Floors {
    let mut floors = Floors::default();
    floors.add("RDNA3", "matmul", waves, Some(hot));
    floors.add("RDNA3", "tokens", 32, None);
    floors
}

#[test]
fn a_figure_that_got_worse_is_named_and_a_better_one_is_not() {
    let hot = HotLoop { all: 100, products: 80, by_matrices: false, loads: 8, scalars: 10, aside: 50 };
    let recorded: Floors = floors(8, hot).to_string().parse().expect("what was written is read");
    assert_eq!(recorded, floors(8, hot));
    assert!(recorded.problems(&floors(8, hot)).is_empty());
    assert!(recorded.problems(&floors(10, HotLoop { products: 85, loads: 7, scalars: 9, ..hot })).is_empty());
    let noise = floors(8, HotLoop { all: 101, scalars: 12, ..hot });
    assert!(recorded.problems(&noise).is_empty(), "two runs of one compiler differ by so much");
    let worse = [
        (floors(7, hot), "waves 7, recorded 8"),
        (floors(8, HotLoop { all: 102, ..hot }), "per cent of products 78, recorded 80"),
        (floors(8, HotLoop { loads: 9, ..hot }), "loads a product, in hundredths 11, recorded 10"),
        (floors(8, HotLoop { scalars: 13, ..hot }), "scalar instructions 13, recorded 10"),
        (floors(8, HotLoop { aside: 54, ..hot }), "instructions aside 54, recorded 50"),
    ];
    for (now, text) in worse {
        assert_eq!(recorded.problems(&now), [format!("RDNA3, matmul: {text}")]);
    }
}

#[test]
fn kernels_come_and_go_only_with_a_record() {
    let hot = HotLoop { all: 100, products: 80, by_matrices: false, loads: 8, scalars: 10, aside: 50 };
    let (one, mut two) = (floors(8, hot), floors(8, hot));
    two.add("RDNA4", "matmul", 8, Some(hot));
    assert_eq!(one.problems(&two), ["RDNA4, matmul: nothing is recorded"]);
    assert_eq!(two.problems(&one), ["RDNA4, matmul: recorded, but there is no such kernel"]);
    for (text, problem) in
        [("RDNA3\tmatmul\t8\t80\t10", "no five figures"), ("RDNA3", "no line of floors"), ("a\tb\t8\tx\t1\t1\t0", "no five")]
    {
        assert!(text.parse::<Floors>().unwrap_err().contains(problem), "{text}");
    }
}
