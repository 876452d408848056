//! temporary
use super::look::Look;
pub use super::plain::Plain as Inner;
pub struct Console(Inner);
impl Console {
    pub fn new(look: Look, all: bool) -> Self {
        Self(Inner::new(Box::new(std::io::stderr()), look, all))
    }
}
impl super::Subscriber for Console {
    fn event(&mut self, t: jiff::Timestamp, e: &crate::event::Event) {
        self.0.event(t, e)
    }
    fn tick(&mut self, n: jiff::Timestamp) {
        self.0.tick(n)
    }
}
