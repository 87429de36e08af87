//! TensorBoard event files: `Event` protocol buffers (tensorflow `core/util/event.proto`) in TFRecord
//! framing (tensorflow `core/lib/io/record_writer.cc`), with the tags transformers' Trainer uses.

use crate::protocol::Event;
use crate::store::Store;
use crate::Result;
use web_time::{SystemTime, UNIX_EPOCH};

/// An event file of the run folder.
pub struct EventFile {
    key: String,
}

impl EventFile {
    /// Begins a file for the steps after `step`. TensorBoard forgets later steps of earlier files.
    pub async fn create(store: &impl Store, step: usize) -> Result<Self> {
        let seconds = wall_time();
        let file = Self { key: format!("events.out.tfevents.{:010}.attune.{step}", seconds as u64) };
        let mut version = Message::default();
        version.double(1, seconds).bytes(3, b"brain.Event:2");
        let mut start = Message::default();
        // SessionLog { status: START }: what lies at or after this step in earlier files is void.
        start.double(1, seconds).varint(2, step as u64 + 1).bytes(7, &[0x08, 1]);
        store.append(&file.key, &[record(&version.0), record(&start.0)].concat()).await?;
        Ok(file)
    }

    /// Appends the scalars of a step or an evaluation; other events have none.
    pub async fn append(&self, store: &impl Store, event: &Event) -> Result<()> {
        let (step, scalars) = match event {
            Event::Step(m) => (m.step, vec![
                ("train/loss", m.loss),
                ("train/learning_rate", m.lr),
                ("train/grad_norm", m.grad_norm),
                ("train/epoch", m.epoch),
                ("train/tokens_per_sec", m.tokens_per_sec),
            ]),
            Event::Eval(m) => (m.step, vec![
                ("eval/loss", m.eval_loss),
                ("eval/perplexity", m.eval_perplexity),
                ("eval/token_accuracy", m.eval_token_accuracy),
            ]),
            _ => return Ok(()),
        };
        store.append(&self.key, &record(&scalar_event(wall_time(), step, &scalars))).await
    }
}

fn wall_time() -> f64 {
    // A clock before 1970 only spoils the horizontal axis.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

fn scalar_event(wall_time: f64, step: usize, scalars: &[(&str, f64)]) -> Vec<u8> {
    let mut summary = Message::default();
    for (tag, value) in scalars {
        let mut entry = Message::default();
        entry.bytes(1, tag.as_bytes()).float(2, *value as f32);
        summary.bytes(1, &entry.0);
    }
    let mut event = Message::default();
    event.double(1, wall_time).varint(2, step as u64).bytes(5, &summary.0);
    event.0
}

/// Length, its masked CRC, data, its masked CRC; all little-endian.
fn record(data: &[u8]) -> Vec<u8> {
    let masked = |bytes: &[u8]| crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes();
    let length = (data.len() as u64).to_le_bytes();
    [&length[..], &masked(&length), data, &masked(data)].concat()
}

/// A protocol buffer under construction: each field is its number and wire type, then its value.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn key(&mut self, field: u8, wire_type: u8) {
        self.0.push(field << 3 | wire_type);
    }

    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn varint(&mut self, field: u8, value: u64) -> &mut Self {
        self.key(field, 0);
        self.raw_varint(value);
        self
    }

    fn double(&mut self, field: u8, value: f64) -> &mut Self {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
        self
    }

    fn bytes(&mut self, field: u8, value: &[u8]) -> &mut Self {
        self.key(field, 2);
        self.raw_varint(value.len() as u64);
        self.0.extend(value);
        self
    }

    fn float(&mut self, field: u8, value: f32) -> &mut Self {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
        self
    }
}
