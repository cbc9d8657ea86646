// Node's fetch with a body that is a stream, which goes in chunks: prints the answer.

const [address, token, model] = process.argv.slice(2);
const text = JSON.stringify({ inputs: [{ name: "x", datatype: "UINT8", shape: [1, 3], data: [1, 2, 3] }] });
const body = new ReadableStream({
  async pull(controller) {
    for (const piece of text.match(/.{1,20}/g)) {
      controller.enqueue(new TextEncoder().encode(piece));
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    controller.close();
  },
});
const headers = { Authorization: `Bearer ${token}` };
const url = `http://${address}/v2/models/${model}/infer`;
const answer = await fetch(url, { method: "POST", headers, body, duplex: "half" });
console.log(answer.status, await answer.text());
