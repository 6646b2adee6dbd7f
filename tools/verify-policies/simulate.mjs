// Lets iam-simulate decide requests: one JSON object a line on stdin, `{ id, simulation }`, and one a line on stdout, `{ id, verdict }` or
// `{ id, error }`. What a simulation is, the package documents; see README.md for the license.

import { createInterface } from 'node:readline'
import { runSimulation } from '@cloud-copilot/iam-simulate'

const decide = async ({ id, simulation }) => {
  try {
    const outcome = await runSimulation(simulation, {})
    if (outcome.resultType === 'error') return { id, error: JSON.stringify(outcome.errors) }
    const ignored = outcome.result?.ignoredContextKeys ?? []
    if (ignored.length > 0) return { id, error: `it ignores the keys ${ignored.join(', ')}` }
    return { id, verdict: outcome.overallResult }
  } catch (error) {
    return { id, error: String(error) }
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(JSON.stringify(await decide(JSON.parse(line))) + '\n')
}
