"""AWS for the tests: ministack, with what it leaves out of cross-account IAM and ECR put in.

`python -m aws` serves it. ministack evaluates policies (identity policies, boundaries, trust policies, resource
policies) and that is the part that proves a grant. Around it several things are missing or laxer than AWS, and a test
that passes because of such a gap proves nothing. Each module here closes one of them, by replacing functions of exactly
the version of ministack that tools/requirements.txt pins, and says why it is there.

| module | what it makes as it is in AWS |
|---|---|
| `patching` | how functions are replaced, and the check that it is the version meant |
| `policy_documents` | PURE: the grammar of policy documents, and the form in which AWS gives them back |
| `principals` | who a caller is to a policy; principals that must exist; what deletion leaves of them |
| `managed_policies` | the AWS managed policies of ECR |
| `not_principal` | denials of all who are not listed |
| `policy_versions` | going back to another version of a managed policy |
| `request_validation` | the constraints of the API models: patterns, lengths, ranges |
| `iam_conditions` | ARNs with paths, condition keys, and the second permission that some actions need |
| `iam_documents` | policy documents refused at write, quotas |
| `iam_responses` | which fields come back where |
| `sts_sessions` | how long a session may last |
| `sts_tags` | session tags that are passed on, and the room for tags |
| `sts_permissions` | trust policies that are enough by themselves; the condition keys of AssumeRole |
| `registry_policies` | the policy that a registry itself has |
| `ecr_accounts` | calls into another account's registry (`registryId`) |
| `ecr_repositories` | repository policies refused at write and given back in AWS's form, paging |
| `registry_data_plane` | the registry itself (`/v2/`): tokens, and the ECR action behind each request |
| `organizations` | who is a member of which organization, and the condition keys that ask for it |
| `service_callers` | what a service such as Lambda may do with a repository |

Not AWS, but for the tests: `calls` (what is this request, and whose), `front` (the call log, requests held on demand),
`stops` (work stopped right after a write) and `registry_proxy` (real registry host names on the loopback interface, a program of its own).

What stays different from AWS, and matters to an operator of roles and repository policies:
- Everything is consistent at once, nothing is throttled, no answer is lost, and every account number exists.
- IAM's lists come in one page, whatever their length, and GetAccountAuthorizationDetails leaves out boundaries.
- Policy variables (`${aws:username}`) are not filled in; a `*` in ArnLike also crosses the colons of an ARN.
- An account's root may assume roles (in AWS it may not), and passes every check within its own account.
- A repository policy that would lock out its writer is accepted without `force`. SCPs and VPC endpoint policies do not
  exist. `Allow` with `NotPrincipal` allows nothing.
- A registry's policy is always of scope V2, and one without `Resource` is refused (in AWS: unverified).
- What a policy of the same account allows to everybody (`*`) a boundary limits, like what it allows to the role (in AWS: unverified).
- Texts of errors are often not AWS's, and name the wrong side: rely on codes.
"""
