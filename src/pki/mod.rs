//! stub
#[derive(Clone, Copy, Debug, Eq, PartialEq)] pub enum KeyKind { Rsa(RsaBits), Ec(Curve) }
#[derive(Clone, Copy, Debug, Eq, PartialEq)] pub enum RsaBits { B512,B1024,B2048,B3072,B4096 }
#[derive(Clone, Copy, Debug, Eq, PartialEq)] pub enum Curve { P256,P384,P521 }
