//! How controllers end: those who ask meanwhile find another one at once.

use capf::authority::bundle::Bundle;
use tokio::net::TcpStream;

use crate::harness::eventually;
use crate::product::{PATIENCE, Product};

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_ends_refuses_at_once_whoever_comes() {
    let mut product = Product::start("ends").await;
    let bundle = Bundle::read(&product.bundle()).unwrap();
    let questions = &bundle.config.controllers[0];
    // It has five seconds for its handshake and says nothing: for so long the controller has not ended.
    let _silent = TcpStream::connect(questions).await.unwrap();
    let controller = &mut product.controllers[0];
    controller.signal("TERM").unwrap();
    let ending = std::sync::Mutex::new(controller);
    eventually("it refuses while it ends", PATIENCE, || async {
        let refused = TcpStream::connect(questions).await.is_err();
        if !ending.lock().unwrap().is_running() {
            return Err("it has ended".to_owned());
        }
        if refused { Ok(()) } else { Err("it takes connections".to_owned()) }
    })
    .await
    .unwrap();
}
