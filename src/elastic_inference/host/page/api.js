// The control API as the page asks it: the session's cookie goes by itself, the header says that it is our page.

export class Refused extends Error {}

export async function ask(method, path, body) {
  const options = { method, headers: { "X-EI-Page": "1" }, credentials: "same-origin" };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Refused("the host does not answer");
  }
  if (answer.status === 401) {
    location.reload(); // the session is over: the sign-in stands at the same address
    throw new Refused("the session is over");
  }
  const value = answer.status === 204 ? null : await answer.json();
  if (!answer.ok) throw new Refused(value.error);
  return value;
}
