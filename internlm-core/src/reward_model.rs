//! The trait of models that give conversations a score.

use crate::error::Result;
use crate::message::Message;

/// A reward model: how good a conversation's last answer is. A higher score is a better answer; scores of different
/// models can't be compared.
pub trait RewardModel: Send + Sync {
    /// A score for each conversation, in order.
    ///
    /// # Errors
    /// A model without a reward head, messages that its chat template refuses, a conversation longer than the
    /// context.
    fn rewards(&self, conversations: &[Vec<Message>]) -> Result<Vec<f32>>;
}
