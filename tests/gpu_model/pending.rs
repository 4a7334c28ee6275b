//! Batches on their way: threads, executors, dropped futures, and lost devices.

use meddino::Tensor;
use meddino::error::GpuFailure;
use meddino::gpu::{Context, Gpu, Selection};
use meddino::vit::config::RopePrecision;
use meddino::vit::features::{Features, Request};

use crate::{device, everything, image, open, same_bits};

#[test]
fn threads_share_one_model() {
    let Some(context) = device::context() else { return };
    let (config, weights) = open("seeded:0:micro", RopePrecision::F32);
    let gpu = Gpu::new(&context, &config, &weights).unwrap();
    let images = [image([1, 3, 32, 32]), image([2, 3, 48, 32])];
    let alone = images.each_ref().map(|image| gpu.forward(image, None, &Request::default()).unwrap());
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (gpu, images, alone) = (&gpu, &images, &alone);
            scope.spawn(move || {
                for round in 0..5 {
                    let which = (worker + round) % 2;
                    let got = gpu.forward(&images[which], None, &Request::default()).unwrap();
                    assert!(same_bits(&got, &alone[which]));
                }
            });
        }
    });
}

/// Three batches are in flight at once, two of them in the same buffers. They are awaited in another order and by other
/// threads.
#[test]
fn batches_in_flight_do_not_mix() {
    let Some(context) = device::context() else { return };
    let (config, weights) = open("seeded:0:tiny", RopePrecision::F32);
    let gpu = Gpu::new(&context, &config, &weights).unwrap();
    let request = everything(&config);
    let first = image([2, 3, 70, 115]);
    let images = [Tensor::new([2, 3, 70, 115], first.data().iter().map(|v| 0.5 - v).collect()), image([1, 1, 48, 80]), first];
    let alone: Vec<Features> = images.iter().map(|image| gpu.forward(image, None, &request).unwrap()).collect();
    assert!(!same_bits(&alone[0], &alone[2]));
    for _ in 0..5 {
        let mut pending: Vec<_> = images.iter().map(|image| gpu.submit(image, None, &request).unwrap()).collect();
        let (last, middle) = (pending.pop().unwrap(), pending.pop().unwrap());
        assert!(same_bits(&last.wait().unwrap(), &alone[2]));
        std::thread::scope(|scope| {
            let middle = scope.spawn(|| middle.wait().unwrap());
            // Submitting polls the device too, and may complete the other thread's call.
            let again = gpu.submit(&images[0], None, &request).unwrap();
            assert!(same_bits(&middle.join().unwrap(), &alone[1]));
            assert!(same_bits(&again.wait().unwrap(), &alone[0]));
        });
        assert!(same_bits(&pending.pop().unwrap().wait().unwrap(), &alone[0]));
    }
}

fn is_send<T: Send>(value: T) -> T {
    value
}

/// Compiles only if these futures are `Send`. Nothing calls this function.
#[allow(dead_code, reason = "the compiler is the test")]
async fn the_other_futures_are_send(context: &Context, gpu: &Gpu, image: &Tensor) {
    let _ = is_send(context.tune_async(|_| Ok(()))).await;
    let _ = is_send(context.peak_flops_async()).await;
    let _ = is_send(gpu.profile_async(image, None, &Request::default())).await;
}

/// Opens the device and computes features on an executor that does not know the device and parks its thread. Two
/// batches are in flight at once, and the first is awaited last.
#[test]
fn any_executor_awaits_features_on_any_thread() {
    let Some(blocking) = device::context() else { return };
    let (config, weights) = open("seeded:0:micro", RopePrecision::F32);
    let request = everything(&config);
    let images = [image([1, 3, 32, 48]), image([2, 3, 48, 32])];
    let gpu = Gpu::new(&blocking, &config, &weights).unwrap();
    let want = images.each_ref().map(|image| gpu.forward(image, None, &request).unwrap());
    let awaited = is_send(async {
        let context = Context::new_async(&Selection::Auto).await?;
        let gpu = Gpu::new_async(&context, &config, &weights).await?;
        let first = gpu.submit_async(&images[0], None, &request).await?;
        let (second, span) = gpu.submit_clocked_async(&images[1], None, &request).await?.wait_clocked_async().await?;
        assert_eq!(span.is_some(), context.device().features().contains(wgpu::Features::TIMESTAMP_QUERY));
        let times = gpu.pass_times_async(&images[0], &request, 2).await?;
        assert!(times.len() == 2 && times.iter().all(|time| !time.is_zero()));
        Ok::<_, meddino::Error>([first.await?, second])
    });
    let got = std::thread::scope(|scope| scope.spawn(|| pollster::block_on(awaited)).join().unwrap()).unwrap();
    assert!(got.iter().zip(&want).all(|(got, want)| same_bits(got, want)));
}

/// Dropping a future while the device works must not disturb the next one. Losing the device ends a pending future with
/// an error.
#[test]
fn a_pending_future_may_be_dropped_or_lose_its_device() {
    let Some(context) = device::context() else { return };
    let (config, weights) = open("seeded:0:micro", RopePrecision::F32);
    let gpu = Gpu::new(&context, &config, &weights).unwrap();
    let (image, request) = (image([1, 3, 32, 32]), everything(&config));
    let want = gpu.forward(&image, None, &request).unwrap();
    for _ in 0..5 {
        let mut dropped = gpu.submit(&image, None, &request).unwrap();
        let mut task = std::task::Context::from_waker(std::task::Waker::noop());
        let _ = std::pin::Pin::new(&mut dropped).poll(&mut task);
        drop(dropped);
        assert!(same_bits(&pollster::block_on(gpu.forward_async(&image, None, &request)).unwrap(), &want));
    }
    let pending = gpu.submit(&image, None, &request).unwrap();
    context.device().destroy();
    // What the device had finished before is there; what it had not is an error.
    match pollster::block_on(pending) {
        Ok(features) => assert!(same_bits(&features, &want)),
        Err(problem) => assert!(problem.to_string().starts_with("gpu: "), "{problem}"),
    }
    let message = pollster::block_on(gpu.forward_async(&image, None, &request)).unwrap_err().to_string();
    assert!(message.contains("was lost"), "{message}");
}

/// Destroys the device before, between and after the calls of a batch: each call returns an error, or the features if
/// they had been computed before.
#[test]
fn a_device_lost_at_any_moment_is_an_error() {
    let (config, weights) = open("seeded:0:micro", RopePrecision::F32);
    let (image, request) = (image([1, 1, 32, 32]), Request { prenorm: true, layers: vec![0], taps: false });
    let Some(context) = device::context() else { return };
    let want = Gpu::new(&context, &config, &weights).unwrap().forward(&image, None, &request).unwrap();
    let lost = |error: &meddino::Error| {
        let message = error.to_string();
        assert_eq!(device::kind(error), Some(GpuFailure::Lost), "{message}");
        assert!(message.starts_with("gpu: ") && message.contains("open it again"), "{message}");
    };
    let fresh = || Context::new(&Selection::Auto).unwrap();

    let context = fresh();
    context.device().destroy();
    lost(&Gpu::new(&context, &config, &weights).unwrap_err());

    let context = fresh();
    let gpu = Gpu::new(&context, &config, &weights).unwrap();
    context.device().destroy();
    for _ in 0..2 {
        lost(&gpu.submit(&image, None, &request).unwrap_err());
        lost(&gpu.submit_clocked(&image, None, &request).unwrap_err());
        lost(&gpu.profile(&image, None, &request).unwrap_err());
        lost(&gpu.pass_times(&image, &request, 1).unwrap_err());
    }

    let context = fresh();
    let gpu = Gpu::new(&context, &config, &weights).unwrap();
    gpu.forward(&image, None, &request).unwrap();
    let pending = [gpu.submit(&image, None, &request), gpu.submit_clocked(&image, None, &request)];
    context.device().destroy();
    for pending in pending {
        match pending.unwrap().wait() {
            Ok(got) => assert!(same_bits(&got, &want)),
            Err(error) => lost(&error),
        }
    }
    lost(&gpu.forward(&image, None, &request).unwrap_err());

    let again = Gpu::new(&fresh(), &config, &weights).unwrap().forward(&image, None, &request).unwrap();
    assert!(same_bits(&again, &want), "another device computes as before");
}
