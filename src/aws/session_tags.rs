//! The tags of the operator's own sessions, and the fallback if AWS has no room for all of them.
//!
//! AWS packs the tags of a session and the tags that it inherits into a space of undocumented size.
//! According to reports, the six tags of EKS Pod Identity alone take three quarters of it. If the
//! tags do not fit, the tag with the namespace is left out of that session. CloudTrail shows the
//! namespace either way, because the session's name contains it, too.

use super::causes::causes;
use crate::grant::AccountId;
use crate::grant::ownership::TAG_NAMESPACE;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials, future};
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the missing namespace tag was logged already. The entire process shares one flag: the
/// cause is the operator's own identity.
pub(super) type Reported = Arc<AtomicBool>;

/// Credentials with all tags, or without the namespace tag if AWS answers that the tags are too
/// large together.
#[derive(Debug)]
pub(super) struct WithTagsThatFit<All, Fewer> {
    pub account: AccountId,
    pub with_namespace: All,
    pub without_namespace: Fewer,
    /// Whether this session's tags were too large. If so, its renewals leave the namespace tag out
    /// at once.
    pub too_large: AtomicBool,
    pub reported: Reported,
}

impl<All: ProvideCredentials, Fewer: ProvideCredentials> WithTagsThatFit<All, Fewer> {
    async fn assume(&self) -> provider::Result {
        if !self.too_large.load(Ordering::Relaxed) {
            match self.with_namespace.provide_credentials().await {
                Err(error) if is_too_large(&error) => self.too_large.store(true, Ordering::Relaxed),
                assumed => return assumed,
            }
            if !self.reported.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    account = %self.account,
                    tag = TAG_NAMESPACE,
                    code = "PackedPolicyTooLarge",
                    "the session tags do not fit, assuming the role without the namespace tag; the session name still begins with \
                     the namespace; with EKS Pod Identity, set disableSessionTags on the association (logged once)"
                );
            }
        }
        self.without_namespace.provide_credentials().await
    }
}

impl<All: ProvideCredentials, Fewer: ProvideCredentials> ProvideCredentials
    for WithTagsThatFit<All, Fewer>
{
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.assume())
    }
}

fn is_too_large(error: &CredentialsError) -> bool {
    causes(error)
        .filter_map(|cause| cause.downcast_ref())
        .any(AssumeRoleError::is_packed_policy_too_large_exception)
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_credential_types::Credentials;
    use aws_sdk_sts::types::error::{ExpiredTokenException, PackedPolicyTooLargeException};
    use std::sync::Mutex;

    /// Credentials provider that answers each call with the next of these results.
    #[derive(Debug)]
    struct Answers(Mutex<Vec<Result<&'static str, AssumeRoleError>>>);

    impl Answers {
        fn of(answers: impl IntoIterator<Item = Result<&'static str, AssumeRoleError>>) -> Self {
            Self(Mutex::new(answers.into_iter().collect()))
        }
    }

    impl ProvideCredentials for Answers {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let answer = match self.0.lock().unwrap().remove(0) {
                Ok(key) => Ok(Credentials::new(key, "secret", None, None, "test")),
                Err(error) => Err(CredentialsError::provider_error(error)),
            };
            future::ProvideCredentials::ready(answer)
        }
    }

    fn too_large() -> AssumeRoleError {
        AssumeRoleError::PackedPolicyTooLargeException(
            PackedPolicyTooLargeException::builder().build(),
        )
    }

    fn session(
        with: Answers,
        without: Answers,
        reported: &Reported,
    ) -> WithTagsThatFit<Answers, Answers> {
        WithTagsThatFit {
            account: "111111111111".parse().unwrap(),
            with_namespace: with,
            without_namespace: without,
            too_large: AtomicBool::new(false),
            reported: reported.clone(),
        }
    }

    #[tokio::test]
    async fn tags_too_large_drop_the_namespace_tag_of_that_session() {
        let reported = Reported::default();
        let crowded = session(
            Answers::of([Err(too_large())]),
            Answers::of([Ok("fewer"), Ok("again")]),
            &reported,
        );
        assert_eq!(
            crowded.provide_credentials().await.unwrap().access_key_id(),
            "fewer"
        );
        assert!(reported.load(Ordering::Relaxed));
        // A renewal does not request the refused tags again: there is only one answer.
        assert_eq!(
            crowded.provide_credentials().await.unwrap().access_key_id(),
            "again"
        );
        let other = session(Answers::of([Ok("all")]), Answers::of([]), &reported);
        assert_eq!(
            other.provide_credentials().await.unwrap().access_key_id(),
            "all"
        );
    }

    #[tokio::test]
    async fn other_refusals_keep_the_namespace_tag() {
        let expired =
            AssumeRoleError::ExpiredTokenException(ExpiredTokenException::builder().build());
        let reported = Reported::default();
        let refused = session(
            Answers::of([Err(expired)]),
            Answers::of([Ok("fewer")]),
            &reported,
        );
        assert!(refused.provide_credentials().await.is_err());
        assert!(!reported.load(Ordering::Relaxed));
    }
}
