"""Pydantic AI: an agent that runs the tool loop by itself."""

import wire
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel


async def answer(job):
    kind = OpenAIResponsesModel if job.api == "responses" else OpenAIChatModel
    agent = Agent(kind(job.model), tools=[wire.lookup] if job.tool else [])
    if not job.stream:
        return (await agent.run(job.text)).output
    async with agent.run_stream(job.text) as run:
        async for piece in run.stream_text(delta=True, debounce_by=None):
            wire.say(piece=piece)
        return await run.get_output()


wire.serve(answer)
