"""The official Python SDK: the plain calls, and for streams its helpers, which are the strictest readers there are."""

import openai
import wire

client = openai.OpenAI()


def answer(job):
    return (responses if job.api == "responses" else chat)(job)


def responses(job):
    history = [{"role": "user", "content": job.text}]
    options = {"tools": [{"type": "function", **wire.FUNCTION}]} if job.tool else {}
    while True:
        if job.stream:
            with client.responses.stream(model=job.model, input=history, **options) as stream:
                for event in stream:
                    if event.type == "response.output_text.delta":
                        wire.say(piece=event.delta)
                result = stream.get_final_response()
        else:
            result = client.responses.create(model=job.model, input=history, **options)
        history += result.output
        calls = [item for item in result.output if item.type == "function_call"]
        if not calls:
            return result.output_text
        for call in calls:
            output = wire.call(call.name, call.arguments)
            history.append({"type": "function_call_output", "call_id": call.call_id, "output": output})


def chat(job):
    messages = [{"role": "user", "content": job.text}]
    options = {"tools": [{"type": "function", "function": wire.FUNCTION}]} if job.tool else {}
    while True:
        if job.stream:
            with client.chat.completions.stream(model=job.model, messages=messages, **options) as stream:
                for event in stream:
                    if event.type == "content.delta":
                        wire.say(piece=event.delta)
                result = stream.get_final_completion()
        else:
            result = client.chat.completions.create(model=job.model, messages=messages, **options)
        message = result.choices[0].message
        messages.append(message)
        if not message.tool_calls:
            return message.content
        for call in message.tool_calls:
            output = wire.call(call.function.name, call.function.arguments)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": output})


wire.serve(answer)
