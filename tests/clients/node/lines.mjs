// A call comes in on stdin as one line of JSON, its outcome goes out on stdout as another.
import { createInterface } from "node:readline";

export async function serve(deeds, failure) {
  for await (const line of createInterface({ input: process.stdin })) {
    const call = JSON.parse(line);
    let outcome;
    try {
      outcome = await deeds[call.do](call);
    } catch (error) {
      const known = failure(error);
      if (!known) throw error;
      outcome = { error: known };
    }
    process.stdout.write(JSON.stringify(outcome) + "\n");
  }
}
