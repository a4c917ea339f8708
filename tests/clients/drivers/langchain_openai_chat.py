"""LangChain's ChatOpenAI: chat completions by default, the Responses API on request."""

import wire
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI


def answer(job):
    model = ChatOpenAI(model=job.model, use_responses_api=job.api == "responses")
    lookup = tool(wire.lookup)
    if job.tool:
        model = model.bind_tools([lookup])
    messages = [HumanMessage(job.text)]
    while True:
        if job.stream:
            message = None
            for chunk in model.stream(messages):
                if chunk.text:
                    wire.say(piece=chunk.text)
                message = chunk if message is None else message + chunk
        else:
            message = model.invoke(messages)
        messages.append(message)
        if not message.tool_calls:
            return str(message.text)
        messages += [lookup.invoke(call) for call in message.tool_calls]


wire.serve(answer)
