//! AdamW's update, an element to a unit.

use super::{empty_like, one_each};
use crate::ops::AdamW;
use crate::ops::adamw::AdamWStep;
use burn::backend::tensor::FloatTensor;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

impl AdamWStep for CubeBackend {
    fn adamw_step(
        value: FloatTensor<Self>,
        moment_1: FloatTensor<Self>,
        moment_2: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        rule: AdamW,
        time: i32,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let [value, moment_1, moment_2, grad] = [value, moment_1, moment_2, grad].map(into_contiguous);
        // Written in place, unless somebody else still reads them.
        let own = |x: CubeTensor| if x.can_mut() { x } else { x.copy() };
        let (moment_1, moment_2) = (own(moment_1), own(moment_2));
        let n = value.meta.shape().num_elements();
        let result = empty_like(&value, value.meta.shape().clone());
        let client = value.client.clone();
        let (count, units) = one_each(&client, n);
        let ([beta_1, beta_2], [unbias_1, unbias_2]) = (rule.betas, rule.unbias(time));
        let rule = RuleLaunch::new(beta_1, beta_2, unbias_1, unbias_2, rule.lr as f32, rule.epsilon);
        // SAFETY: the kernel holds its reads and writes within the size it is given.
        unsafe {
            update::launch_unchecked(
                &client,
                count,
                units,
                value.into_buffer_arg(),
                moment_1.clone().into_buffer_arg(),
                moment_2.clone().into_buffer_arg(),
                grad.into_buffer_arg(),
                result.clone().into_buffer_arg(),
                n as u32,
                rule,
            );
        }
        (result, moment_1, moment_2)
    }
}

#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Rule {
    beta_1: f32,
    beta_2: f32,
    unbias_1: f32,
    unbias_2: f32,
    lr: f32,
    epsilon: f32,
}

#[cube(launch_unchecked)]
fn update(
    value: &[f32],
    moment_1: &mut [f32],
    moment_2: &mut [f32],
    grad: &[f32],
    result: &mut [f32],
    n: u32,
    rule: Rule,
) {
    let i = ABSOLUTE_POS;
    if i < n as usize {
        let g = grad[i];
        let m = moment_1[i] * rule.beta_1 + g * (1.0f32 - rule.beta_1);
        let v = moment_2[i] * rule.beta_2 + g * g * (1.0f32 - rule.beta_2);
        moment_1[i] = m;
        moment_2[i] = v;
        result[i] = value[i] - m * rule.unbias_1 / ((v * rule.unbias_2).sqrt() + rule.epsilon) * rule.lr;
    }
}
