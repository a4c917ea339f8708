"""An OpenAI client as anybody writes it: it knows nothing of proxies, accounts or subscriptions."""

import sys

import openai


def main() -> None:
    client = openai.OpenAI(max_retries=0)
    with client.responses.with_streaming_response.create(
        model="gpt-5.5", input=sys.argv[1], stream=True
    ) as answer:
        for event in answer.parse():
            if event.type == "response.output_text.delta":
                print(event.delta, end="", flush=True)
        served = answer.headers["x-openai-auth-account"]
        attempts = answer.headers.get("x-openai-auth-attempts")
    print(f"\n  served by {served}" + (f"  (tried: {attempts})" if attempts else ""))


if __name__ == "__main__":
    main()
