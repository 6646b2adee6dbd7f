"""AWS for the tests: ministack, completed with what it lacks of cross-account IAM and ECR.

`python -m aws` serves it. ministack evaluates policies (identity policies, boundaries, trust policies, resource
policies), which is the part that proves a grant. Other things are missing in ministack, or less strict than in AWS. A
test that passes because of such a gap proves nothing. Each module here closes one gap and explains it. It replaces
functions of exactly the version of ministack that tools/requirements.txt pins.

| module | what it adds or corrects |
|---|---|
| `patching` | replaces functions, and checks the version of ministack |
| `policy_documents` | PURE: the grammar of policy documents, and the form in which AWS returns them |
| `principals` | the principals of a caller; principals that must exist; the effects of a deletion |
| `managed_policies` | the AWS managed policies of ECR |
| `not_principal` | denials for all principals that are not listed |
| `policy_versions` | restoring an earlier version of a managed policy |
| `request_validation` | the constraints of the API models: patterns, lengths, ranges |
| `iam_conditions` | ARNs with paths, condition keys, and the second permission that some actions require |
| `iam_documents` | policy documents that IAM refuses, quotas |
| `iam_responses` | the fields of each response |
| `sts_sessions` | the longest duration of a session |
| `sts_tags` | transitive session tags, and the size limit of tags |
| `sts_permissions` | trust policies that suffice alone; the condition keys of AssumeRole |
| `registry_policies` | the policy of a registry |
| `ecr_accounts` | calls to another account's registry (`registryId`) |
| `ecr_repositories` | repository policies that ECR refuses, their form in responses, paging |
| `registry_data_plane` | the registry itself (`/v2/`): tokens, and the ECR action behind each request |
| `organizations` | the members of organizations, and the condition keys for them |
| `service_callers` | access of services such as Lambda to a repository |

Not part of AWS, but for the tests: `calls` (the action and account of a request), `front` (the call log, and requests held
on demand), `stops` (accounts stopped right after a write) and `registry_proxy` (real registry host names on the loopback
interface, a separate program).

Remaining differences from AWS that matter to an operator of roles and repository policies:
- Everything is consistent at once, nothing is throttled, no answer is lost, and every account number exists.
- IAM's lists have one page, whatever their length, and GetAccountAuthorizationDetails omits boundaries.
- Policy variables (`${aws:username}`) are not replaced. A `*` in ArnLike also matches the colons of an ARN.
- An account's root may assume roles (in AWS it may not), and passes every check within its own account.
- A repository policy that would lock out its writer is accepted without `force`. SCPs and VPC endpoint policies do not
  exist. `Allow` with `NotPrincipal` allows nothing.
- A registry policy always has scope V2, and one without `Resource` is refused (in AWS: unverified).
- A boundary also limits what a policy of the same account allows to everybody (`*`) (in AWS: unverified).
- The texts of errors often differ from AWS's, and name the wrong side: rely on the codes.
"""
