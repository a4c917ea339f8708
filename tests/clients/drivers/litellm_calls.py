"""LiteLLM as a library: `completion` and `responses`."""

import litellm
import wire


def answer(job):
    return (responses if job.api == "responses" else chat)(job)


def chat(job):
    messages = [{"role": "user", "content": job.text}]
    options = {"tools": [{"type": "function", "function": wire.FUNCTION}]} if job.tool else {}
    while True:
        result = litellm.completion(
            model=f"openai/{job.model}", messages=messages, stream=job.stream, **options
        )
        if job.stream:
            chunks = []
            for chunk in result:
                chunks.append(chunk)
                if text := chunk.choices[0].delta.content:
                    wire.say(piece=text)
            result = litellm.stream_chunk_builder(chunks, messages=messages)
        message = result.choices[0].message
        messages.append(message)
        if not message.tool_calls:
            return message.content
        for call in message.tool_calls:
            output = wire.call(call.function.name, call.function.arguments)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": output})


def responses(job):
    history = [{"role": "user", "content": job.text}]
    options = {"tools": [{"type": "function", **wire.FUNCTION}]} if job.tool else {}
    while True:
        result = litellm.responses(model=f"openai/{job.model}", input=history, stream=job.stream, **options)
        if job.stream:
            for event in result:
                if event.type == "response.output_text.delta":
                    wire.say(piece=event.delta)
            result = event.response
        items = [item if isinstance(item, dict) else item.model_dump() for item in result.output]
        history += items
        calls = [item for item in items if item["type"] == "function_call"]
        if not calls:
            return "".join(
                part["text"] for item in items if item["type"] == "message" for part in item["content"]
            )
        for call in calls:
            output = wire.call(call["name"], call["arguments"])
            history.append({"type": "function_call_output", "call_id": call["call_id"], "output": output})


wire.serve(answer)
