//! Typed messages in JSON: the feature `json`.

use std::error::Error;

use serde_core::{Serialize, de::DeserializeOwned};

use super::{FromFrame, ToFrame};

/// A message in JSON. It is written on one line, so that every framing can hold it; most protocols use [`Line`].
///
/// ```
/// use sockserver::framing::{FromFrame, Json};
///
/// #[derive(serde::Deserialize)]
/// struct Order {
///     item: String,
///     count: u32,
/// }
///
/// let Json(order) = Json::<Order>::from_frame(br#"{"item": "spoon", "count": 3}"#).unwrap();
/// assert_eq!((&*order.item, order.count), ("spoon", 3));
/// ```
///
/// [`Line`]: super::Line
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromFrame for Json<T> {
    type Message<'a> = Json<T>;

    /// # Errors
    ///
    /// [`serde_json::Error`].
    fn from_frame(frame: &[u8]) -> Result<Json<T>, Box<dyn Error + Send + Sync>> {
        Ok(Json(serde_json::from_slice(frame)?))
    }
}

impl<T: Serialize> ToFrame for Json<T> {
    fn to_frame<'a>(&'a self, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], Box<dyn Error + Send + Sync>> {
        serde_json::to_writer(&mut *buffer, &self.0)?;
        Ok(buffer)
    }
}
