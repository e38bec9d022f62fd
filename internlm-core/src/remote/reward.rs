//! Scores of a reward model by a server: `/v1/rank`, which this workspace's has.

use serde::Deserialize;
use serde_json::json;

use super::RemoteModel;
use super::request::messages_json;
use crate::error::Result;
use crate::message::Message;
use crate::reward_model::RewardModel;

#[derive(Deserialize)]
struct Ranked {
    data: Vec<Scored>,
}

#[derive(Deserialize)]
struct Scored {
    index: usize,
    score: f32,
}

impl RewardModel for RemoteModel {
    /// Sends [`RemoteConfig::score_batch`](super::RemoteConfig::score_batch) conversations at a time.
    fn rewards(&self, conversations: &[Vec<Message>]) -> Result<Vec<f32>> {
        let url = self.client.api("/rank");
        let mut scores = Vec::with_capacity(conversations.len());
        for batch in conversations.chunks(self.client.config.score_batch.max(1)) {
            let input = batch.iter().map(|messages| messages_json(messages));
            let body = json!({"model": self.name, "input": input.collect::<Result<Vec<_>>>()?});
            let Ranked { mut data } = self.route(&url, &body, "scores of a reward model")?;
            data.sort_by_key(|scored| scored.index);
            if !data.iter().map(|scored| scored.index).eq(0..batch.len()) {
                let what = format!("{} conversations, {} scores", batch.len(), data.len());
                return Err(self.client.protocol(&url, &what));
            }
            scores.extend(data.iter().map(|scored| scored.score));
        }
        Ok(scores)
    }
}
