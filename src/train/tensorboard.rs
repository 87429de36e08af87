//! TensorBoard event files: `Event` protocol buffers (tensorflow `core/util/event.proto`) in TFRecord
//! framing (tensorflow `core/lib/io/record_writer.cc`), with the tags transformers' Trainer uses.

use crate::Result;
use crate::protocol::Event;
use crate::store::Store;
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
            Event::Step(m) => (
                m.step,
                vec![
                    ("train/loss", m.loss),
                    ("train/learning_rate", m.lr),
                    ("train/grad_norm", m.grad_norm),
                    ("train/epoch", m.epoch),
                    ("train/tokens_per_sec", m.tokens_per_sec),
                ],
            ),
            Event::Eval(m) => {
                let mut scalars = vec![
                    ("eval/loss", m.eval_loss),
                    ("eval/perplexity", m.eval_perplexity),
                    ("eval/token_accuracy", m.eval_token_accuracy),
                ];
                scalars.extend(m.eval_accuracy.map(|accuracy| ("eval/accuracy", accuracy)));
                (m.step, scalars)
            }
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
    let masked =
        |bytes: &[u8]| crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes();
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::protocol::EvalMetrics;
    use crate::store::memory::{MemoryStore, ready};

    // import io                                                      # tensorboard 2.21.0
    // from tensorboard.compat.proto.event_pb2 import Event
    // from tensorboard.compat.proto.summary_pb2 import Summary
    // from tensorboard.summary.writer.record_writer import RecordWriter
    // value = lambda tag, v: Summary.Value(tag=tag, simple_value=v)
    // summary = Summary(value=[value("train/loss", 1.5), value("train/grad_norm", 0.25)])
    // file = io.BytesIO()
    // RecordWriter(file).write(Event(wall_time=1700000000.5, step=300, summary=summary).SerializeToString())
    // print(file.getvalue().hex())
    const GOLDEN: &str = "39000000000000008b0737f10900002040fc54d94110ac022a2b0a110a0a747261696e2f6c6f737315\
                          0000c03f0a160a0f747261696e2f677261645f6e6f726d150000803e21deb8d8";

    #[test]
    fn a_record_equals_tensorboards_own() {
        let event = scalar_event(1_700_000_000.5, 300, &[("train/loss", 1.5), ("train/grad_norm", 0.25)]);
        let hex: String = record(&event).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, GOLDEN);
    }

    #[test]
    fn a_file_is_a_chain_of_whole_records() {
        ready(async {
            let store = MemoryStore::new();
            let file = EventFile::create(&store, 4).await.unwrap();
            let eval = EvalMetrics {
                step: 5,
                eval_loss: 0.5,
                eval_perplexity: 1.6,
                eval_token_accuracy: 0.9,
                eval_accuracy: None,
                n_targets: 3,
            };
            file.append(&store, &Event::Eval(eval)).await.unwrap();
            file.append(&store, &Event::Note { message: "no record".into() }).await.unwrap();
            let mut rest = &store.read_all(&file.key, 1 << 20).await.unwrap()[..];
            let mut records = Vec::new();
            while !rest.is_empty() {
                let data_len = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
                let (data, whole) = (&rest[12..12 + data_len], &rest[..16 + data_len]);
                assert_eq!(record(data), whole);
                records.push(data.to_vec());
                rest = &rest[16 + data_len..];
            }
            assert_eq!(records.len(), 3);
            assert!(records[0].ends_with(b"brain.Event:2"));
            assert_eq!(
                records[1][9..],
                [0x10, 5, 0x3a, 2, 0x08, 1],
                "steps from 5 on are void in earlier files"
            );
            assert!(records[2].windows(9).any(|window| window == b"eval/loss"));
        });
    }
}
